"""The plain gradient is the central difference of the plain forward pass."""

import numpy as np
import pytest
from wkv4_inputs import draw

from rwkv_np import wkv4


@pytest.mark.parametrize("state", [False, True])
def test_gradients_are_central_differences(state):
    rng = np.random.default_rng(6)
    w, u, k, v, state0 = draw(rng, 9, 3, batch=(2,), state=state)
    dout, dnum, dden = rng.normal(size=k.shape), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    _, after0 = wkv4.recurrent(w, u, k, v, state0)

    def loss(w, u, k, v, *state):
        out, after = wkv4.recurrent(w, u, k, v, wkv4.State(*state) if state else None)
        fixed = np.exp(after.log_scale - after0.log_scale)          # the gradient is taken at fixed log_scale
        return (dout * out).sum() + (dnum * after.num * fixed + dden * after.den * fixed).sum()

    grads = wkv4.backward(w, u, k, v, dout, state0, wkv4.State(dnum, dden, None))
    inputs = [w, u, k, v, *(state0 or ())]
    for n, grad in enumerate([*grads[:4], *(grads.dstate if state else ())]):
        numeric = np.empty_like(grad)
        for at in np.ndindex(grad.shape):
            values = []
            for h in (1e-5, -1e-5):
                changed = [x.copy() for x in inputs]
                changed[n][at] += h
                values.append(loss(*changed))
            numeric[at] = (values[0] - values[1]) / 2e-5
        assert np.abs(grad - numeric).max() < 1e-7 * np.abs(grad).max(), n


def test_gradients_have_the_dtypes_of_their_inputs():
    w, u, k, v, _ = draw(np.random.default_rng(0), 5)
    inputs = w, u.astype(np.float32), k.astype(np.float32), v.astype(np.float32)
    for grads in (wkv4.backward(*inputs, v), wkv4.vjp(*inputs)[1](v)):
        assert [x.dtype for x in grads[:4]] == [x.dtype for x in inputs]
        assert all(x.dtype == np.float64 for x in grads.dstate)
