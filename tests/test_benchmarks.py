"""Check that the profile counts everything once, and that the table has its rows."""

import cProfile

import numpy as np
import pytest

from benchmarks.__main__ import ROWS, against_us, missing, verdict
from benchmarks.profiling import PURPOSES, shares
from rwkv_np import RWKV4


def test_profile_gives_all_of_the_time_to_some_purpose(monkeypatch):
    model, tokens, profiles = RWKV4.init(17, 16, 2), np.arange(2 * 41).reshape(2, 41) % 17, []

    class Recorded(cProfile.Profile):
        def __init__(self):
            super().__init__()
            profiles.append(self)

    monkeypatch.setattr(cProfile, "Profile", Recorded)
    found = shares(lambda: model.loss_and_grads(tokens[:, :-1], tokens[:, 1:]), 10)
    assert {"WKV", "matrix products", "layer norms"} <= set(found) <= {*PURPOSES.values(), "WKV", "the rest"}
    total = sum(own for _, _, own, _, _ in profiles[0].stats.values())
    assert 10 * sum(found.values()) == pytest.approx(1e3 * total, rel=1e-6)


def test_every_row_names_contenders_that_exist():
    from benchmarks import contenders

    for _, ours, _, theirs, how, goal in ROWS:
        assert callable(getattr(contenders, ours)) and callable(getattr(contenders, theirs))
        assert how in ("share", "faster", "time") and (goal is None or goal > 0)
    assert missing("step_ours") is None


def test_verdict_knows_which_way_is_better():
    assert verdict(1.2, "faster", 1.15).endswith(": reached") and verdict(1.1, "faster", 1.15).endswith("not reached")
    assert verdict(0.9, "time", 1.0).endswith(": reached") and verdict(1.1, "time", 1.0).endswith("not reached")
    assert verdict(5.0, "faster", None) == ""


def test_a_ratio_that_misses_its_goal_does_not_look_as_if_it_did_not():
    assert against_us(1.149, "faster") == "1.14x" and against_us(0.929, "share") == "0.92x"
    assert against_us(1.001, "time") == "1.01" and against_us(0.25, "time") == "0.25"
