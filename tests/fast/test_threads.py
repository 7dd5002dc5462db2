"""Threads obey the limits of the BLAS, and what holds in the caller holds in them."""

import numpy as np
import pytest

from rwkv_np.fast import threads


def test_threads_obey_the_limit_of_the_blas_and_the_callers_errstate(monkeypatch):
    for name in threads.LIMITS:
        monkeypatch.delenv(name, raising=False)
    assert threads.available_threads() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads.available_threads() == 1
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        threads.in_threads(2, np.exp, [np.array(1.0), np.array(1e4)])
    with np.errstate(over="ignore"):
        assert threads.in_threads(2, np.exp, [np.array(0.0), np.array(1e4)]) == [1.0, np.inf]
