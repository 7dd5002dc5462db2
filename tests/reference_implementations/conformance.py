"""The conformance tests on other implementations: python tests/reference_implementations/conformance.py

The official runtime's recurrence for the CPU stands inside `RWKV.att_seq`, between its matrix products. To reach it,
the products are replaced while it runs: those for key and value return the case's, that for the receptance makes the
gate 1/2, and that of the output keeps its input.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}

import numpy as np
import rwkv.model
import torch
from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

from rwkv_np.testing import check_wkv4, check_wkv4_backward


def tensors(*arrays):
    """PyTorch tensors; the operator wants a batch."""
    return [torch.tensor(np.ascontiguousarray(a)) for a in arrays]


def forward(w, u, k, v, state):
    with np.errstate(divide="ignore"):
        log_w, u, k, v = tensors(np.log(w), u, k, v)
    flat = (-1, *k.shape[-2:])
    out, state = rwkv_linear_attention_cpu(log_w, u, k.reshape(flat), v.reshape(flat), state, return_state=True)
    return out.reshape(k.shape), state


def backward(w, u, k, v, dout):
    w = np.maximum(w, w.dtype.type(1e-30))              # it is a function of log w
    inputs = [t.requires_grad_() for t in tensors(np.log(w), u, k, v)]
    flat = (-1, *k.shape[-2:])
    out, _ = rwkv_linear_attention_cpu(inputs[0], inputs[1], inputs[2].reshape(flat), inputs[3].reshape(flat))
    out.reshape(k.shape).backward(tensors(dout)[0])
    dlog_w, du, dk, dv = (np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in inputs)
    return dlog_w / w, du, dk, dv                       # d/dw = d/dlog w / w


def official(w, u, k, v, state):
    """`att_seq` of the official runtime; it takes one sequence at a time."""
    w, u, k, v = tensors(w, u, k, v)
    if k.ndim > 2:
        states = [None] * len(k) if state is None else state
        outs, states = zip(*(official(w.numpy(), u.numpy(), k[b].numpy(), v[b].numpy(), states[b])
                             for b in range(len(k))), strict=True)
        return torch.stack([torch.as_tensor(out) for out in outs]), list(states)
    zeros, seen = torch.zeros_like(k), []

    def product(x, weight, *_, output_dtype=None):
        if weight == "output":
            seen.append(2 * x)                          # sigmoid(0) is 1/2
            return zeros
        return {"key": k, "value": v, "receptance": zeros}[weight]

    aa, bb, pp = state or (zeros[0], zeros[0], zeros[0] - 1e30)
    shipped, rwkv.model.matmul = rwkv.model.matmul, product
    try:
        one = torch.ones_like(w)
        _, _, aa, bb, pp = rwkv.model.RWKV.att_seq(
            None, zeros, zeros[0], aa, bb, pp, one, one, one, one, one, -w, u, "key", "value", "receptance", "output",
            *[None] * 16)
    finally:
        rwkv.model.matmul = shipped
    return seen[0], (aa, bb, pp)


if __name__ == "__main__":
    for name, operator in (("transformers", forward), ("rwkv", official)):
        for dtype in ("float32", "float64"):
            print(f"{name}: {check_wkv4(operator, dtype=dtype, raise_on_failure=False)}\n")
    report = check_wkv4_backward(backward, supports_state=False, max_length=300, raise_on_failure=False)
    print(f"transformers, {report}")
