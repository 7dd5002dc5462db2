"""The conformance tests on other implementations: python tests/reference_implementations/conformance.py

It needs torch, transformers and rwkv, and for the last part flash-linear-attention's files (fla, einops); what is not
installed is skipped. Nothing needs a GPU.

The official runtime's recurrences stand inside its layers, between matrix products. To reach them, the functions that
the layer calls on the way are replaced while it runs: products return the case's keys and values, the layer norm
returns rows that pick a token's decay, and the group norm keeps its input, which is the output of the recurrence.
"""

import importlib.util
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}

import numpy as np
import rwkv.model
import torch
from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

import rwkv_np
from rwkv_np.testing import check_model, check_wkv4, check_wkv4_backward, check_wkv6, check_wkv6_backward, check_wkv7


def import_rwkv7():
    """Return the official runtime's module as it is for RWKV-7, which takes the place of the other generations there.

    Its functions are compiled whatever the settings say; a compiled function would not notice the replacements.
    """
    torch.jit.script = torch.jit.script_method = lambda function: function
    torch.jit.ScriptModule = torch.nn.Module
    os.environ["RWKV_V7_ON"] = "1"
    spec = importlib.util.spec_from_file_location("rwkv7_model", rwkv.model.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rwkv7_model = import_rwkv7()


def tensors(*arrays):
    """Return PyTorch tensors."""
    return [torch.tensor(np.ascontiguousarray(a)) for a in arrays]


@contextmanager
def replaced(module, **functions):
    """Replace functions of a module for a while."""
    shipped = {name: getattr(module, name) for name in functions}
    for name, function in functions.items():
        setattr(module, name, function)
    try:
        yield
    finally:
        for name, function in shipped.items():
            setattr(module, name, function)


def one_by_one(kernel):
    """Return a kernel for batches of one that takes sequences singly, and pads keys or values to a square state."""
    def batched(*arguments):
        *inputs, state = arguments
        *batch, _, _, n = inputs[0].shape
        m = max(a.shape[-1] for a in inputs)
        padded = [np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, m - a.shape[-1])]) for a in inputs]
        value = inputs[VALUE[len(inputs)]].shape[-1]
        outs, states = [], []
        for at in np.ndindex(*batch):
            out, S = kernel(*(a if a.ndim == 2 else a[at] for a in padded), None if state is None else state[len(outs)])
            outs.append(out[..., :value].numpy())
            states.append(S)
        return np.reshape(outs, (*batch, *outs[0].shape)), states

    return batched


VALUE = {5: 4, 6: 3}        # which argument v is: of r, lam, u, k, v and of r, lam, k, v, a, b


# RWKV-4


def transformers_forward(w, u, k, v, state):
    with np.errstate(divide="ignore"):
        log_w, u, k, v = tensors(np.log(w), u, k, v)
    flat = (-1, *k.shape[-2:])
    out, state = rwkv_linear_attention_cpu(log_w, u, k.reshape(flat), v.reshape(flat), state, return_state=True)
    return out.reshape(k.shape), state


def transformers_backward(w, u, k, v, dout):
    w = np.maximum(w, w.dtype.type(1e-30))              # it is a function of log w
    inputs = [t.requires_grad_() for t in tensors(np.log(w), u, k, v)]
    flat = (-1, *k.shape[-2:])
    out, _ = rwkv_linear_attention_cpu(inputs[0], inputs[1], inputs[2].reshape(flat), inputs[3].reshape(flat))
    out.reshape(k.shape).backward(tensors(dout)[0])
    dlog_w, du, dk, dv = (np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in inputs)
    return dlog_w / w, du, dk, dv                       # d/dw = d/dlog w / w


def official4(w, u, k, v, state):
    """Run `att_seq` of the official runtime on one sequence after the other."""
    w, u, k, v = tensors(w, u, k, v)
    if k.ndim > 2:
        states = [None] * len(k) if state is None else state
        outs, states = zip(*(official4(w.numpy(), u.numpy(), k[b].numpy(), v[b].numpy(), states[b])
                             for b in range(len(k))), strict=True)
        return torch.stack([torch.as_tensor(out) for out in outs]), list(states)
    zeros, seen = torch.zeros_like(k), []

    def product(x, weight, *_, output_dtype=None):
        if weight == "output":
            seen.append(2 * x)                          # the gate, sigmoid(0), is 1/2
            return zeros
        return {"key": k, "value": v, "receptance": zeros}[weight]

    aa, bb, pp = state or (zeros[0], zeros[0], zeros[0] - 1e30)
    one = torch.ones_like(w)
    with replaced(rwkv.model, matmul=product):
        _, _, aa, bb, pp = rwkv.model.RWKV.att_seq(
            None, zeros, zeros[0], aa, bb, pp, one, one, one, one, one, -w, u, "key", "value", "receptance", "output",
            *[None] * 16)
    return seen[0], (aa, bb, pp)


# RWKV-5, 6 and 7


def attention(run, r, k, v, rows):
    """Return the input of the group norm, and what `run` returns; products and the layer norm return the case's."""
    length, width, seen = len(r), r.shape[-2] * r.shape[-1], []
    given = {"receptance": r.reshape(length, width), "key": k.reshape(length, width), "value": v.reshape(length, width)}
    given |= {"gate": torch.zeros(length, width), "output": torch.zeros(length, width)}
    shipped = rwkv.model.matmul

    def product(x, weight, *rest, **options):
        return given[weight] if isinstance(weight, str) else shipped(x, weight, *rest, **options)

    def group_norm(x, *_, **__):
        seen.append(x.reshape(r.shape).clone())
        return torch.zeros_like(x)

    with replaced(rwkv.model, matmul=product), replaced(torch.nn.functional, layer_norm=lambda *_, **__: rows,
                                                        group_norm=group_norm):
        returned = run()
    return seen[0], returned


@one_by_one
def official5(r, lam, u, k, v, S):
    """Run `att_seq_v5_2` token by token, as its decay is constant in time."""
    r, lam, u, k, v = tensors(r, lam, u, k, v)
    heads, n = u.shape
    S, outs, zeros = torch.zeros(heads, n, n) if S is None else S, [], torch.zeros(1, heads * n)
    for t in range(len(r)):
        out, (_, _, S) = attention(lambda t=t, S=S: rwkv.model.RWKV.att_seq_v5_2(
            None, zeros, zeros[0], S, *[None] * 4, *[0] * 4, torch.exp(lam[t])[..., None], u[..., None], "key", "value",
            "receptance", "gate", "output", *[None] * 20), r[t:t + 1], k[t:t + 1], v[t:t + 1], zeros)
        outs.append(out)
    return torch.cat(outs), S


@one_by_one
def official6(r, lam, u, k, v, S):
    """Run `att_seq_v6_0`; row t of the identity picks token t's decay out of the low-rank map."""
    r, lam, u, k, v = tensors(r, lam, u, k, v)
    length, heads, n = r.shape
    S = torch.zeros(heads, n, n) if S is None else S
    rows, log_rate = torch.zeros(length, max(length, heads * n)), torch.zeros(max(length, heads * n), heads * n)
    rows[:, :length] = torch.eye(length)
    log_rate[:length] = torch.log((-lam).clamp(1e-30)).reshape(length, -1)
    width = rows.shape[1]
    x = torch.zeros(length, heads * n)
    out, (_, _, S) = attention(lambda: rwkv.model.RWKV.att_seq_v6_0(
        None, x, torch.zeros(width), S, *[None] * 4, *[0] * 6, torch.zeros(width, 5), torch.zeros(5, 1, width),
        100 * torch.eye(width), log_rate, torch.zeros(heads, n), u[..., None], "key", "value", "receptance", "gate",
        "output", *[None] * 20), r, k, v, rows)
    return out, S


def official7_segments(r, lam, k, v, a, b, S):
    """Run `RWKV_x070_TMix_seq` on rows of the identity, so that row t of each matrix is token t's."""
    length, heads, n = r.shape
    if length > heads * n:                                                      # as many rows as there are channels
        at = heads * n
        first, S = official7_rows(*(x[:at] for x in (r, lam, k, v, a, b)), S)
        rest, S = official7_segments(*(x[at:] for x in (r, lam, k, v, a, b)), S)
        return torch.cat([first, rest]), S
    return official7_rows(r, lam, k, v, a, b, S)


def official7_rows(r, lam, k, v, a, b, S):
    """Return out, S of a segment of at most as many tokens as there are channels."""
    r, lam, k, v, a, b = tensors(r, lam, k, v, a, b)
    length, heads, n = r.shape
    rows, flat = torch.eye(length, heads * n), (length, heads * n)

    def matrix(x):                                                              # (T, H, N) -> (H N, H N)
        return torch.nn.functional.pad(x.reshape(flat), (0, 0, 0, heads * n - length))

    share = lam / -0.606531                                                     # sigmoid(s), in (0, 1) but for padding
    alpha = torch.where(a == 0, 0.5, -b / torch.where(a == 0, 1.0, a))
    s, alpha = (torch.logit(x.clamp(1e-30, 1 - 1e-7)) for x in (share, alpha))
    seen, identity = [], torch.eye(heads * n)

    def group_norm(x, *_, **__):
        seen.append(x.reshape(r.shape).clone())
        return torch.zeros_like(x)

    zero, flat_zero = torch.zeros(heads * n, 1), torch.zeros(heads * n)
    with replaced(torch.nn.functional, group_norm=group_norm, normalize=lambda *_, **__: -a):
        _, _, S, _ = rwkv7_model.RWKV_x070_TMix_seq(
            0, heads, n, rows, flat_zero, None, torch.zeros(heads, n, n) if S is None else S, *[0.0] * 6, 0.0,
            100 * identity, matrix(s), 0.0, identity, matrix(alpha), None, None, None, zero, zero.T, 1.0, 0.0,
            flat_zero, matrix(r), matrix(k), matrix(v), 0 * identity, None, None)
    return seen[0], S


official7 = one_by_one(official7_segments)


# flash-linear-attention's naive references, read file by file: the package itself needs Triton and a GPU


def fla_module(path):
    """Return a module of fla by its path, without importing the package."""
    spec = importlib.util.find_spec("fla")
    file = Path(spec.submodule_search_locations[0]) / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fla_layout(*arrays):
    """Return tensors (B, H, T, N) of arrays (..., T, H, N), and the shape of the batch."""
    return [t.reshape(-1, *t.shape[-3:]).transpose(1, 2) for t in tensors(*arrays)]


def fla_back(out, like):
    return out.transpose(1, 2).reshape(*like.shape[:-1], out.shape[-1])


def fla_kernels():
    """Return {name: (check, kernel, options)}."""
    recurrent6, chunk6 = fla_module("ops/rwkv6/recurrent_naive.py"), fla_module("ops/rwkv6/chunk_naive.py")
    delta = fla_module("ops/generalized_delta_rule/dplr/naive.py")

    def naive6(r, lam, u, k, v, S):
        q, w, key, value = fla_layout(r, lam, k, v)
        out, S = recurrent6.naive_recurrent_rwkv6(q, key, value, w, tensors(u)[0], 1.0, S, True)
        return fla_back(out, r), S

    def backward6(r, lam, u, k, v, dout):
        q, w, key, value, do = fla_layout(r, lam, k, v, dout)
        dq, dk, dv, dw, du, _ = recurrent6.naive_recurrent_rwkv6_bwd(q, key, value, w, tensors(u)[0], do, do)
        return fla_back(dq, r), fla_back(dw, r), du, fla_back(dk, r), fla_back(dv, v)

    def whole_chunks(x, chunk):
        return torch.nn.functional.pad(x, (0, 0, 0, -x.shape[2] % chunk))

    def chunked6(r, lam, u, k, v, _):
        q, w, key, value = (whole_chunks(x, 32) for x in fla_layout(r, lam, k, v))
        return fla_back(chunk6.naive_chunk_rwkv6(q, key, value, w, tensors(u)[0])[:, :, :r.shape[-3]], r)

    def recurrence7(r, lam, k, v, a, b, S):
        q, w, key, value, alpha, beta = fla_layout(r, lam, k, v, a, b)
        out, S = delta.dplr_recurrence(q * q.shape[-1]**0.5, key, value, alpha, beta, w, S)
        return fla_back(out, r), S

    def chunkwise7(r, lam, k, v, a, b, S):
        q, w, key, value, alpha, beta = (whole_chunks(x, 32) for x in fla_layout(r, lam, k, v, a, b))
        out, S = delta.dplr_chunkwise(q * q.shape[-1]**0.5, key, value, alpha, beta, w, S)
        return fla_back(out[:, :, :r.shape[-3]], r), S

    no_state = {"supports_state": False, "max_length": 100}
    return {"naive_recurrent_rwkv6": (check_wkv6, naive6, {}), "naive_chunk_rwkv6": (check_wkv6, chunked6, no_state),
            "naive_recurrent_rwkv6_bwd": (check_wkv6_backward, backward6, no_state),
            "dplr_recurrence": (check_wkv7, recurrence7, {}),
            "dplr_chunkwise": (check_wkv7, chunkwise7, {"max_length": 100})}


class OfficialModel:
    """A whole model of the official runtime, as `check_model` wants it; from a float32 copy of the file."""

    def __init__(self, path):
        own = rwkv_np.load(path).astype(np.float32)
        if own.generation == 7:                         # which the runtime expects in block 0, without a use for them
            arrays = {name: torch.tensor(a) for name, a in own.params.items()}
            arrays |= {f"blocks.0.att.{n}": torch.zeros_like(arrays[f"blocks.1.att.{n}"]) for n in ("v0", "v1", "v2")}
        else:
            arrays = {name: torch.tensor(a) for name, a in own.params.items()}
        with tempfile.TemporaryDirectory() as folder:
            torch.save(arrays, f"{folder}/model.pth")
            module = rwkv7_model if own.generation == 7 else rwkv.model
            self.model = module.RWKV(f"{folder}/model", "cpu fp32")

    def forward(self, tokens, state=None):
        tokens = [int(token) for token in tokens]
        logits, state = self.model.forward(tokens, None if state is None else [x.clone() for x in state], True)
        return logits.reshape(len(tokens), -1), state

    def step(self, token, state):
        logits, state = self.forward([token], state)
        return logits[0], state


def row(name, report):
    """Print one row of the table in docs/conformance.md, and what is not ok."""
    counts = [sum(r.verdict == verdict for r in report.results) for verdict in ("ok", "imprecise", "wrong")]
    print(f"| {name} | {len(report.results)} | {' | '.join(map(str, counts))} |")
    return f"{name}: {report}"


if __name__ == "__main__":
    reports = []
    for name, operator in (("transformers", transformers_forward), ("rwkv", official4)):
        for dtype in ("float32", "float64"):
            reports.append(row(f"{name}, RWKV-4, {dtype}", check_wkv4(operator, dtype=dtype, raise_on_failure=False)))
    reports.append(row("transformers, RWKV-4, gradient", check_wkv4_backward(
        transformers_backward, supports_state=False, max_length=300, raise_on_failure=False)))
    for name, check, operator in (("rwkv, RWKV-5", check_wkv6, official5), ("rwkv, RWKV-6", check_wkv6, official6),
                                  ("rwkv, RWKV-7", check_wkv7, official7)):
        reports.append(row(name, check(operator, max_length=100, raise_on_failure=False)))
    if importlib.util.find_spec("fla"):
        for name, (check, operator, options) in fla_kernels().items():
            reports.append(row(f"fla, {name}", check(operator, raise_on_failure=False, **options)))
    data = Path(os.environ.get("RWKV_NP_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    for path in sorted(data.glob("tiny-rwkv-*.pth")):
        report = check_model(OfficialModel(path), path, supports_batch=False, raise_on_failure=False)
        reports.append(row(f"rwkv, {path.stem}", report))
    print("\n" + "\n\n".join(reports))
