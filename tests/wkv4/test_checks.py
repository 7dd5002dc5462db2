"""Wrong arguments are refused with an error that names them."""

import numpy as np
import pytest
from wkv4_inputs import vjp_output

from rwkv_np import wkv4

FORMS = [wkv4.recurrent, wkv4.all_pairs, wkv4.scan, wkv4.chunked, vjp_output]
GOOD = {"w": np.ones(6), "u": np.ones(6), "k": np.ones((4, 6)), "v": np.ones((4, 6)), "state": None}


@pytest.mark.parametrize("change, kind, message", [
    ({"w": np.ones(3)}, ValueError, r"w has shape \(3,\) but must be \(6,\), as k has 6 channels"),
    ({"u": np.ones((1, 6))}, ValueError, r"u has shape \(1, 6\) but must be \(6,\), as k has 6 channels"),
    ({"w": -np.ones(6)}, ValueError, r"w\[0\] = -1.0 but the decay rate must be finite and >= 0"),
    ({"w": np.array([1, 1, np.inf, 1, 1, 1])}, ValueError, r"w\[2\] = inf but the decay rate must be finite"),
    ({"w": np.full(6, np.nan)}, ValueError, r"w\[0\] = nan"),
    ({"k": np.ones(6), "v": np.ones(6)}, ValueError, r"k has shape \(6,\) but must be \(..., T, C\)"),
    ({"v": np.ones((4, 5))}, ValueError, r"v has shape \(4, 5\) but must be \(4, 6\), as k"),
    ({"k": np.ones((4, 6), int)}, TypeError, r"k is int64 but must be float32 or float64: k.astype"),
    ({"v": np.ones((4, 6), np.float32)}, TypeError, "k is float64 but v is float32"),
    ({"state": wkv4.initial_state((2, 6))}, ValueError, r"state.num has shape \(2, 6\) but must be \(6,\)"),
    ({"state": (1, 2, 3)}, TypeError, "state is tuple but must be a State"),
])
@pytest.mark.parametrize("form", FORMS)
def test_wrong_arguments_are_named(form, change, kind, message):
    with pytest.raises(kind, match=message):
        form(**{**GOOD, **change})


@pytest.mark.parametrize("change, message", [
    ({"w": np.ones(3)}, r"w has shape \(3,\)"), ({"k": np.ones(())}, r"k has shape \(\) but must be \(..., C\)"),
    ({"state": wkv4.initial_state(5)}, r"state.num has shape \(5,\) but must be \(6,\)"),
])
def test_step_names_wrong_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        wkv4.step(**{**GOOD, "k": np.ones(6), "v": np.ones(6), **change})


@pytest.mark.parametrize("change, kind, message", [
    ({"dout": np.ones((3, 6))}, ValueError, r"dout has shape \(3, 6\) but must be \(4, 6\), as the output"),
    ({"dout": np.ones((4, 6), int)}, TypeError, "dout is int64"),
    ({"dstate": wkv4.initial_state(5)}, ValueError, r"dstate.num has shape \(5,\) but must be \(6,\)"),
    ({"dstate": (1, 2)}, TypeError, "dstate is tuple but must be a State"),
])
def test_wrong_gradients_are_named(change, kind, message):
    change = {"dout": np.ones((4, 6)), **change}
    _, pullback = wkv4.vjp(**GOOD)
    with pytest.raises(kind, match=message):
        pullback(**change)
    with pytest.raises(kind, match=message):
        wkv4.backward(**GOOD, **change)


@pytest.mark.parametrize("form", [wkv4.chunked, vjp_output])
def test_a_chunk_is_a_positive_integer(form):
    with pytest.raises(ValueError, match="chunk is 0 but must be at least 1"):
        form(**GOOD, chunk=0)
    with pytest.raises(TypeError, match="chunk is 2.0 but must be an integer"):
        form(**GOOD, chunk=2.0)
