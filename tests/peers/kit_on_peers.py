"""The kit on others' operators: python tests/peers/kit_on_peers.py (needs benchmarks/requirements.txt)

The official runtime has no WKV operator for the CPU that could be called by itself: its recurrence stands inside
`att_seq`, between layer norm and output matrix. Whole models are compared with it in peers.py.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
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
    w = np.maximum(w, w.dtype.type(1e-30))              # theirs is a function of log w
    inputs = [t.requires_grad_() for t in tensors(np.log(w), u, k, v)]
    flat = (-1, *k.shape[-2:])
    out, _ = rwkv_linear_attention_cpu(inputs[0], inputs[1], inputs[2].reshape(flat), inputs[3].reshape(flat))
    out.reshape(k.shape).backward(tensors(dout)[0])
    dlog_w, du, dk, dv = (np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in inputs)
    return dlog_w / w, du, dk, dv                       # d/dw = d/dlog w / w


if __name__ == "__main__":
    print(check_wkv4(forward, raise_on_failure=False))
    print(check_wkv4(forward, dtype="float64", raise_on_failure=False))
    print(check_wkv4_backward(backward, max_length=300, raise_on_failure=False))
