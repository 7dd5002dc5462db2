"""The operators elsewhere: transformers' for RWKV-4; the plain loop, and fla's naive chunks, for RWKV-6 and 7.

The loops follow the equations of RWKV-6 (arXiv:2404.05892) and RWKV-7 (arXiv:2503.14456), one token at a time, under
autograd. fla's functions are plain PyTorch in files of flash-linear-attention (package fla-core, which need not be
importable as a whole: that would require Triton); they are read from there. Each output is compared with rwkv_np's
before it is timed.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch

from .operators import OPERATORS, inputs


def transformers_4(w, u, k, v):
    from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

    return rwkv_linear_attention_cpu(w.log(), u, k, v)[0]


def loop_6(r, lam, u, k, v):
    """S: (B, H, N, M), S[key, value]; read, then decayed and added to."""
    S, w, outs = torch.zeros(*k.shape[:1], *k.shape[2:], v.shape[-1]), lam.exp(), []
    for t in range(k.shape[1]):
        kv = k[:, t, :, :, None] * v[:, t, :, None, :]                                  # (B, H, N, M)
        outs.append((r[:, t, :, None, :] @ (S + u[..., None] * kv)).squeeze(-2))        # (B, H, M)
        S = w[:, t, :, :, None] * S + kv
    return torch.stack(outs, 1)


def loop_7(r, lam, k, v, a, b):
    """S: (B, H, M, N), S[value, key]; decayed, corrected and added to, then read."""
    S, w, outs = torch.zeros(*v.shape[:1], *v.shape[2:], k.shape[-1]), lam.exp(), []
    for t in range(k.shape[1]):
        S = (S * w[:, t, :, None, :] + (S @ a[:, t, :, :, None]) @ b[:, t, :, None, :]
             + v[:, t, :, :, None] * k[:, t, :, None, :])
        outs.append((S @ r[:, t, :, :, None]).squeeze(-1))                              # (B, H, M)
    return torch.stack(outs, 1)


def fla_6(r, lam, u, k, v):
    chunks = from_fla("rwkv6/chunk_naive.py").naive_chunk_rwkv6
    return by_heads(lambda r, k, v, lam: chunks(r, k, v, lam, u), r, k, v, lam)


def fla_7(r, lam, k, v, a, b):
    chunks, n = from_fla("generalized_delta_rule/dplr/naive.py").dplr_chunkwise, r.shape[-1]
    return by_heads(lambda *arrays: chunks(*arrays)[0], r * n**0.5, k, v, a, b, lam)    # it divides r by sqrt(n)


def by_heads(function, *arrays):
    """Apply a function of arrays (B, H, T, N) to arrays (B, T, H, N)."""
    return function(*(a.transpose(1, 2) for a in arrays)).transpose(1, 2)


def from_fla(path):
    """Return a file of fla/ops as a module, without importing the package around it."""
    package = importlib.util.find_spec("fla")
    if package is None:
        raise ImportError("flash-linear-attention is not there (pip install --no-deps fla-core einops)")
    spec = importlib.util.spec_from_file_location("naive", Path(package.submodule_search_locations[0], "ops", path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare(generation, implementation):
    """Return the function and its arguments, after comparing its output with rwkv_np's."""
    function = globals()[f"{implementation}_{generation}"]
    arrays, dout = inputs(generation)
    (expected, _), _ = OPERATORS[generation](*arrays)
    arguments = [torch.tensor(a, requires_grad=True) for a in arrays]
    found = function(*arguments).detach().numpy()
    error = np.abs(found - expected).max() / np.abs(expected).max()
    if not error < 1e-4:
        raise ArithmeticError(f"{implementation} differs from rwkv_np by {error:.1g} of the largest output")
    return function, arguments, torch.tensor(dout)


def forward(generation, implementation):
    function, arguments, _ = prepare(generation, implementation)
    return lambda: function(*arguments), 1


def both(generation, implementation):
    function, arguments, dout = prepare(generation, implementation)
    return lambda: torch.autograd.grad(function(*arguments), arguments, dout), 1
