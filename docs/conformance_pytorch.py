"""WKV-6 and WKV-7 in PyTorch, checked with rwkv_np.testing: forward, and the gradients that autograd derives.

    python docs/conformance_pytorch.py

Replace `wkv6` and `wkv7` by your kernels. Everything else turns NumPy arrays into tensors and back.
"""

import torch

from rwkv_np.testing import check_wkv6, check_wkv6_backward, check_wkv7, check_wkv7_backward


def wkv6(r, lam, u, k, v, S):
    """r, lam, k: (..., T, H, N); v: (..., T, H, M); u: (H, N); S: (..., H, N, M)."""
    out = []
    for t in range(r.shape[-3]):
        rt, lt, kt, vt = (x[..., t, :, :] for x in (r, lam, k, v))
        kv = kt[..., :, None] * vt[..., None, :]                            # (..., H, N, M)
        out.append((rt[..., None] * (S + u[..., None] * kv)).sum(-2))       # (..., H, M)
        S = torch.exp(lt)[..., None] * S + kv
    return torch.stack(out, -3), S


def wkv7(r, lam, k, v, a, b, S):
    """r, lam, k, a, b: (..., T, H, N); v: (..., T, H, M); S: (..., H, M, N)."""
    out = []
    for t in range(r.shape[-3]):
        rt, lt, kt, vt, at, bt = (x[..., t, :, :] for x in (r, lam, k, v, a, b))
        sa = (S * at[..., None, :]).sum(-1, keepdim=True)                   # (..., H, M, 1)
        S = S * torch.exp(lt)[..., None, :] + sa * bt[..., None, :] + vt[..., None] * kt[..., None, :]
        out.append((S * rt[..., None, :]).sum(-1))                          # (..., H, M)
    return torch.stack(out, -3), S


def forward(operator, state_shape):
    """Return the kernel that a check expects: NumPy arrays and a state, which is None at first."""
    def kernel(*arguments):
        *inputs, S = arguments
        inputs = [torch.tensor(x) for x in inputs]
        return operator(*inputs, torch.zeros(state_shape(*inputs)) if S is None else torch.as_tensor(S))

    return kernel


def backward(operator, state_shape):
    """Return the gradient kernel that a check expects, by autograd."""
    def kernel(*arguments):
        *inputs, dout, S, dS = arguments
        inputs = [torch.tensor(x) for x in inputs]
        inputs.append(torch.zeros(state_shape(*inputs)) if S is None else torch.tensor(S))
        for x in inputs:
            x.requires_grad_()
        out, S_end = operator(*inputs)
        dS = torch.zeros_like(S_end) if dS is None else torch.tensor(dS)
        grads = torch.autograd.grad([out, S_end], inputs, [torch.tensor(dout), dS], allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]

    return kernel


def state6(r, lam, u, k, v):
    """Return the shape of WKV-6's state."""
    return (*r.shape[:-3], *r.shape[-2:], v.shape[-1])


def state7(r, lam, k, v, a, b):
    """Return the shape of WKV-7's state."""
    return (*r.shape[:-3], r.shape[-2], v.shape[-1], r.shape[-1])


if __name__ == "__main__":
    print(check_wkv6(forward(wkv6, state6), max_length=100, exchange_states=True))
    print(check_wkv6_backward(backward(wkv6, state6), max_length=100))
    print(check_wkv7(forward(wkv7, state7), max_length=100, exchange_states=True))
    print(check_wkv7_backward(backward(wkv7, state7), max_length=100))
