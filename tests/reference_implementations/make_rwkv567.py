"""RWKV-5, 6 and 7 in PyTorch and in the official runtime `rwkv`: write the outputs that tests compare with.

    pip install torch==2.13.0 rwkv==0.8.32 safetensors          # the CPU build of PyTorch is enough
    python tests/reference_implementations/make_rwkv567.py

writes tests/reference_implementations/fixtures/NAME.safetensors for every case of `random_params.CASES`,
and prints how far the two implementations are apart. The same versions on the same machine write the same
bytes; the stored files were made with Python 3.11, NumPy 2.4.6 and safetensors 0.8.0.

- "official": the package `rwkv` 0.8.32 with the strategy "cpu fp32", one token at a time and one sequence at
  a time; for some cases also its sequence mode. On the CPU it takes any head size. It cannot run an attention
  width that differs from d_model, a 5.x model of one block, or a 5.0 or 5.1 model of one head: those cases
  have no "official" keys.
- "pytorch": the loops over tokens below, in float64, written from the equations of the papers (Eagle and
  Finch, https://arxiv.org/abs/2404.05892; Goose, https://arxiv.org/abs/2503.14456); gradients by autograd.

Both read the same float32 parameters. Keys of a file (batch of 2, T tokens):

    tokens                      int64 (2, T + 1): inputs are [:, :-1], targets [:, 1:]
    digest                      uint8 (32,): `random_params.digest(NAME)`
    official/logits             float32 (2, T, V), after each token
    official/state/FIELD        after the last token: att_shift (L, 2, D), ffn_shift (L, 2, D),
                                wkv (L, 2, H, N, N); sketched (float32; float64 where two products are stored)
    official_sequence/logits    float32 (2, T, V), for the cases in `SEQUENCE_MODE`
    pytorch/logits              float64 (2, T, V)
    pytorch/state/FIELD         float64, sketched
    pytorch/loss                float64 (): mean cross-entropy in nats
    pytorch/grads/PARAMETER     float64, gradient of the loss, sketched
    pytorch_from_state/...      the same four, from the random initial state and with weighted targets:
                                sum(weight * cross-entropy) / sum(weight). The logits are those after the last
                                token, (2, V). Gradients only for cases with d_model = 32.
    pytorch_epsilon_1e-5/logits float64 (2, V), after the last token, with 1e-5 for the group norm's epsilon
                                (64e-5 everywhere else)

wkv is S[key, value] in RWKV-5 and 6, S[value, key] in RWKV-7. "Sketched": the array itself up to 256 floats;
of larger arrays two products, under KEY@p and KEYq@ (`random_params.sketch` computes both from any array).
Parameters without influence on the loss (v0, v1, v2 of block 0; time_state where an initial state is given)
have gradients of zeros.
"""

import importlib
import os
import sys
import tempfile
import warnings
from contextlib import redirect_stdout

import numpy as np
import torch
from random_params import CASES, FIXTURES, digest, official_file_shapes, random_case, sketch
from safetensors.numpy import save_file

SEQUENCE_MODE = ("5.0-time-first", "5.0-time-faaaa", "5.1-head-16", "5.2-head-16", "6-head-16",
                 "7-head-16", "7-head-64")
FIELDS = ("att_shift", "ffn_shift", "wkv")


# The equations, for one token of every sequence: x, x_prev (B, D), S (B, H, N, N); p has the arrays of one block's
# time mixing or channel mixing under the last parts of their names.

def normalise(x, epsilon):
    """Return x with mean 0 and variance 1 along the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + epsilon)


def layer_norm(x, weight, bias):
    """Return the layer norm over all channels."""
    return normalise(x, 1e-5) * weight + bias


def group_norm(out, p, epsilon):
    """Normalise every head on its own, (B, H, N) -> (B, A)."""
    return normalise(out, epsilon).flatten(-2) * p["ln_x.weight"] + p["ln_x.bias"]


def read_and_write(r, w, u, k, v, S):
    """Return a head's output and its next state S[key, value] in RWKV-5 and 6: first read, then write."""
    out = torch.einsum("bhi,bhij->bhj", r, S) + (r * u * k).sum(-1, keepdim=True) * v
    return out, w.unsqueeze(-1) * S + torch.einsum("bhi,bhj->bhij", k, v)


def time_mixing_5(p, x, x_prev, S, epsilon):
    """Return the output and the next state of RWKV-5.0, 5.1 and 5.2."""
    def mix(c):
        return x * p[f"time_mix_{c}"] + x_prev * (1 - p[f"time_mix_{c}"])

    H = p["time_decay"].shape[0]
    r, k, v = ((mix(c) @ p[f"{name}.weight"].T).unflatten(-1, (H, -1))
               for c, name in (("r", "receptance"), ("k", "key"), ("v", "value")))
    w = torch.exp(-torch.exp(p["time_decay"])).reshape(H, -1)                   # one per head in 5.0 and 5.1
    u = p["time_faaaa"] if "time_faaaa" in p else torch.exp(p["time_first"])
    out, S = read_and_write(r, w, u.reshape(H, -1), k, v, S)
    z = group_norm(out, p, epsilon)
    if "gate.weight" in p:
        g = mix("g") @ p["gate.weight"].T
        z = z * g * torch.sigmoid(g)
    return z @ p["output.weight"].T, S


def time_mixing_6(p, x, x_prev, S, epsilon):
    """Return the output and the next state of RWKV-6."""
    d = x_prev - x
    m = torch.tanh((x + d * p["time_maa_x"]) @ p["time_maa_w1"]).unflatten(-1, (5, -1))         # (B, 5, R)
    mixed = {c: x + d * (p[f"time_maa_{c}"] + m[:, i] @ p["time_maa_w2"][i]) for i, c in enumerate("wkvrg")}
    H = p["time_faaaa"].shape[0]
    r, k, v = ((mixed[c] @ p[f"{name}.weight"].T).unflatten(-1, (H, -1))
               for c, name in (("r", "receptance"), ("k", "key"), ("v", "value")))
    g = mixed["g"] @ p["gate.weight"].T
    s = p["time_decay"] + torch.tanh(mixed["w"] @ p["time_decay_w1"]) @ p["time_decay_w2"]
    w = torch.exp(-torch.exp(s)).unflatten(-1, (H, -1))
    out, S = read_and_write(r, w, p["time_faaaa"], k, v, S)
    return (group_norm(out, p, epsilon) * g * torch.sigmoid(g)) @ p["output.weight"].T, S


def time_mixing_7(p, x, x_prev, S, epsilon, v_first):
    """Return the output, the next state S[value, key] and v_first: first write, then read."""
    d = x_prev - x
    x_r, x_w, x_k, x_v, x_a, x_g = (x + d * p[f"x_{c}"] for c in "rwkvag")
    H = p["r_k"].shape[0]

    def heads(y):
        return y.unflatten(-1, (H, -1))

    r = heads(x_r @ p["receptance.weight"].T)
    k0 = x_k @ p["key.weight"].T
    v = x_v @ p["value.weight"].T
    if v_first is None:
        v_first = v
    else:
        v = v + (v_first - v) * torch.sigmoid(p["v0"] + x_v @ p["v1"] @ p["v2"])
    w = heads(torch.exp(-torch.exp(torch.tensor(-0.5, dtype=x.dtype))
                        * torch.sigmoid(p["w0"] + torch.tanh(x_w @ p["w1"]) @ p["w2"])))
    alpha = torch.sigmoid(p["a0"] + x_a @ p["a1"] @ p["a2"])
    g = torch.sigmoid(x_g @ p["g1"]) @ p["g2"]
    kappa = heads(k0 * p["k_k"])
    kappa = kappa / kappa.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    k = heads(k0 * (1 + (alpha - 1) * p["k_a"]))
    v, alpha = heads(v), heads(alpha)

    removed = torch.einsum("bhij,bhj->bhi", S, kappa)                           # from the state before it decays
    S = (S * w.unsqueeze(-2) - torch.einsum("bhi,bhj->bhij", removed, alpha * kappa)
         + torch.einsum("bhi,bhj->bhij", v, k))
    out = torch.einsum("bhij,bhj->bhi", S, r)
    z = group_norm(out, p, epsilon) + ((r * k * p["r_k"]).sum(-1, keepdim=True) * v).flatten(-2)
    return (z * g) @ p["output.weight"].T, S, v_first


def channel_mixing(p, x, x_prev):
    """Return the output of channel mixing; RWKV-7 has no receptance in it."""
    def mix(c):
        if f"time_mix_{c}" in p:
            return x * p[f"time_mix_{c}"] + x_prev * (1 - p[f"time_mix_{c}"])
        return x + (x_prev - x) * p[f"time_maa_{c}" if f"time_maa_{c}" in p else f"x_{c}"]

    y = torch.relu(mix("k") @ p["key.weight"].T) ** 2 @ p["value.weight"].T
    return y * torch.sigmoid(mix("r") @ p["receptance.weight"].T) if "receptance.weight" in p else y


def initial_state(params, batch):
    """Return the state before the first token.

    It is all zeros, but for the time_state of a state-tuned RWKV-6, which is stored as (value, key).
    """
    n_layer, D = sum(name.endswith("ln1.weight") for name in params), params["emb.weight"].shape[1]
    A = params["blocks.0.att.key.weight"].shape[0]
    for name in ("r_k", "time_faaaa", "time_decay"):
        if f"blocks.0.att.{name}" in params:
            H = params[f"blocks.0.att.{name}"].shape[0]
            break
    zeros = params["emb.weight"].new_zeros
    tuned = [params.get(f"blocks.{n}.att.time_state") for n in range(n_layer)]
    wkv = [zeros(batch, H, A // H, A // H) if a is None else a.mT.expand(batch, -1, -1, -1) for a in tuned]
    return {"att_shift": zeros(n_layer, batch, D), "ffn_shift": zeros(n_layer, batch, D), "wkv": torch.stack(wkv)}


def loop(params, tokens, state=None, epsilon=64e-5):
    """Return logits (B, T, V) and the state after the last token, running all layers token by token."""
    state = initial_state(params, tokens.shape[0]) if state is None else state
    att_shift, ffn_shift, wkv = (list(state[field]) for field in FIELDS)
    n_layer = len(wkv)
    blocks = [{kind: {name.removeprefix(f"blocks.{n}.{kind}."): a for name, a in params.items()
                      if name.startswith(f"blocks.{n}.{kind}.")} for kind in ("att", "ffn")} for n in range(n_layer)]

    def norm(x, name):
        return layer_norm(x, params[f"{name}.weight"], params[f"{name}.bias"])

    logits = []
    for t in range(tokens.shape[1]):
        x, v_first = norm(params["emb.weight"][tokens[:, t]], "blocks.0.ln0"), None
        for n, block in enumerate(blocks):
            x1 = norm(x, f"blocks.{n}.ln1")
            if "r_k" in block["att"]:
                y, wkv[n], v_first = time_mixing_7(block["att"], x1, att_shift[n], wkv[n], epsilon, v_first)
            else:
                time_mixing = time_mixing_6 if "time_maa_x" in block["att"] else time_mixing_5
                y, wkv[n] = time_mixing(block["att"], x1, att_shift[n], wkv[n], epsilon)
            x, att_shift[n] = x + y, x1
            x2 = norm(x, f"blocks.{n}.ln2")
            x, ffn_shift[n] = x + channel_mixing(block["ffn"], x2, ffn_shift[n]), x2
        logits.append(norm(x, "ln_out") @ params["head.weight"].T)
    return torch.stack(logits, 1), dict(zip(FIELDS, map(torch.stack, (att_shift, ffn_shift, wkv)), strict=True))


# The stored outputs.

def by_pytorch(params, tokens, state=None, weights=None):
    """Return logits, final state, loss and gradients as float64 arrays, under the keys of a fixture."""
    params = {name: torch.tensor(a, dtype=torch.float64, requires_grad=True) for name, a in params.items()}
    if state is not None:
        state = {field: torch.tensor(a, dtype=torch.float64) for field, a in state.items()}
    tokens = torch.tensor(tokens)
    weights = torch.ones_like(tokens[:, 1:]) if weights is None else torch.tensor(weights)
    logits, state = loop(params, tokens[:, :-1], state)
    log_probability = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    loss = -(weights * log_probability).sum() / weights.sum()
    grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True, materialize_grads=True)
    result = {"logits": logits, "loss": loss} | {f"state/{field}": a for field, a in state.items()}
    result |= {f"grads/{name}": grad for name, grad in zip(params, grads, strict=True)}
    return {key: a.detach().numpy() for key, a in result.items()}


def official_runtime(params, generation):
    """Write the parameters to a .pth file and return the official runtime's model of it."""
    # Settings are read when the module is imported, the generation too.
    os.environ |= {"RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0", "RWKV_V7_ON": "1" if generation == "7" else "0"}
    sys.modules.pop("rwkv.model", None)
    tensors = {name: torch.tensor(a) for name, a in official_file_shapes(params).items()}
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as silence, redirect_stdout(silence):
        torch.save(tensors, f"{folder}/model.pth")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                                     # TorchScript is deprecated
            return importlib.import_module("rwkv.model").RWKV(f"{folder}/model", "cpu fp32")


def by_official(model, tokens):
    """Return the official runtime's logits and final state, one token and one sequence at a time."""
    all_logits, states = [], []
    for row in tokens.tolist():
        state, logits = None, []
        for token in row:
            out, state = model.forward([token], state)
            logits.append(out.numpy().copy())
        all_logits.append(np.stack(logits))
        # Of each layer: att_shift, wkv, ffn_shift.
        states.append({field: np.stack([a.numpy() for a in state[i::3]])
                       for field, i in (("att_shift", 0), ("ffn_shift", 2), ("wkv", 1))})
    result = {f"state/{field}": np.stack([state[field] for state in states], 1) for field in FIELDS}
    return {"logits": np.stack(all_logits)} | result


def official_can_run(generation, params):
    """Return whether the official runtime can run the model."""
    A, D = params["blocks.0.att.key.weight"].shape[0], params["emb.weight"].shape[1]
    one_block = "blocks.1.ln1.weight" not in params
    one_head = generation in ("5.0", "5.1") and len(params["blocks.0.att.time_decay"]) == 1
    return A == D and not (generation.startswith("5") and one_block) and not one_head


def by_official_sequence(model, tokens):
    """Return the logits of the official runtime's sequence mode."""
    return {"logits": np.stack([model.forward(row, None, full_output=True)[0].numpy() for row in tokens.tolist()])}


def error(a, b):
    """Return the largest difference relative to the largest number."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def make(name):
    """Write the fixture of one case and return the largest distance of the official runtime from float64."""
    params, tokens, state, weights = random_case(name)
    generation = CASES[name]["generation"]
    inputs = tokens[:, :-1]
    expected = {"tokens": tokens, "digest": digest(name)}
    exact = by_pytorch(params, tokens)
    double = {name: torch.tensor(a, dtype=torch.float64) for name, a in params.items()}
    other_epsilon = loop(double, torch.tensor(inputs), epsilon=1e-5)[0][:, -1].numpy()
    from_state = by_pytorch(params, tokens, state, weights)
    from_state = {key: a[:, -1] if key == "logits" else a for key, a in from_state.items()
                  if CASES[name]["d_model"] == 32 or not key.startswith("grads")}
    sources = {"pytorch": exact, "pytorch_from_state": from_state, "pytorch_epsilon_1e-5": {"logits": other_epsilon}}
    distances = []
    if official_can_run(generation, params):
        model = official_runtime(params, generation)
        sources["official"] = by_official(model, inputs)
        distances = [error(sources["official"][key], exact[key]) for key in ("logits", *(f"state/{f}" for f in FIELDS))]
        if name in SEQUENCE_MODE:
            sources["official_sequence"] = by_official_sequence(model, inputs)
            distances.append(error(sources["official_sequence"]["logits"], exact["logits"]))
    for source, arrays in sources.items():
        for key, a in arrays.items():
            stored = sketch(a) if key.startswith(("state", "grads")) else {"": a}
            expected |= {f"{source}/{key}{suffix}": np.asarray(part, order="C") for suffix, part in stored.items()}
    save_file(expected, FIXTURES / f"{name}.safetensors", {"made by": f"torch {torch.__version__}, rwkv 0.8.32"})
    print(f"{name:16}" + "".join(f"{d:11.1e}" for d in distances) + "          -" * (not distances))
    return max(distances, default=0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    FIXTURES.mkdir(exist_ok=True)
    for old in FIXTURES.glob("[567]*.safetensors"):
        old.unlink()
    print("Official runtime in float32 against PyTorch in float64: largest difference / largest number\n" + " " * 16
          + "".join(f"{column:>11}" for column in ("logits", *FIELDS, "sequence")))
    worst = max([make(name) for name in CASES])
    print(f"worst {worst:.1e}; {sum(f.stat().st_size for f in FIXTURES.glob('*.safetensors')) / 1e6:.2f} MB")
    assert worst < 1e-5
