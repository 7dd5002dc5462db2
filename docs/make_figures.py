"""Draw the pictures of README and docs: python docs/make_figures.py

Those with measured times are drawn by the commands that measure: `python -m rwkv_np cost`, `python -m benchmarks`.
`python docs/make_figures.py out/model` draws the loss of that training run as shakespeare.png, and nothing else.
"""

import sys
from pathlib import Path

import numpy as np

import rwkv_np
from rwkv_np import wkv4
from rwkv_np.study import plots, trace
from rwkv_np.training import Run

DOCS = Path(__file__).parent
SENTENCE = "Return a new list from the items of the sequence."


def draw_state(model):
    """Draw the state of the slowest layer while it reads a sentence: README's picture."""
    tokens = model.tokenizer.encode(SENTENCE)
    labels = [model.tokenizer.token(token) for token in tokens]
    average, _ = plots.state_heatmaps(trace.states(model, tokens), labels, layer=model.n_layer - 1,
                                      half_lives=trace.half_lives(model))
    return average.figure


def draw_attention(model, text="the items of the sequence", layer=2):
    """Draw the attention maps of a fast, a middling and a slow channel of one layer."""
    tokens = model.tokenizer.encode(text)
    labels = [model.tokenizer.token(token) for token in tokens]
    inputs, half_lives = trace.operands(model, tokens)[layer], trace.half_lives(model)[layer]
    chosen = [int(np.argmin(np.abs(np.log(half_lives / aim)))) for aim in (1, 5, 50)]
    weights = wkv4.all_pairs_weights(inputs["w"], inputs["u"], inputs["k"])[chosen]
    names = [f"half-life {half_lives[channel]:.1f} tokens" for channel in chosen]
    return plots.attention_maps(weights, labels, names)[0].figure


def draw_float32(channels=16):
    """Draw errors of float32 forms over the length of the sequence, and the bound that docs/float32.md derives."""
    rng, lengths = np.random.default_rng(0), 2 ** np.arange(6, 15)
    w, u = np.full(channels, 3e-4, np.float32), np.zeros(channels, np.float32)
    k, v = rng.normal(0, 8, (lengths[-1], channels)), rng.normal(size=(lengths[-1], channels)).astype(np.float32)
    curves = {}
    for name, form, offset in (("state in float32,\nkeys + 10000", run_in_float32, 10_000),
                               ("state in float32", run_in_float32, 0),
                               ("fast form (vjp),\nkeys + 10000", lambda *inputs: wkv4.vjp(*inputs)[0], 10_000),
                               ("recurrent,\nkeys + 10000", wkv4.recurrent, 10_000)):
        keys = (k + offset).astype(np.float32)
        exact, _ = wkv4.recurrent(*(x.astype(np.float64) for x in (w, u, keys, v)))
        error = np.abs(form(w, u, keys, v)[0] - exact).max(axis=1) / np.abs(v).max()
        curves[name] = np.maximum.accumulate(error)[lengths - 1]
    return plots.error_growth(lengths, curves, (2 * 5 * 32 + 8) * 2.0**-24, "bound of the fast form").figure


def run_in_float32(w, u, k, v):
    """Compute the recurrence with its state in float32, in the order of operations that most kernels have."""
    num, den, p = np.zeros_like(w), np.zeros_like(w), np.full_like(w, -1e38)
    out = np.empty_like(k)
    for t in range(len(k)):
        q = np.maximum(p, u + k[t])
        e_past, e_now = np.exp(p - q), np.exp(u + k[t] - q)
        out[t] = (e_past * num + e_now * v[t]) / (e_past * den + e_now)
        q = np.maximum(p - w, k[t])
        decay, w_in = np.exp(p - w - q), np.exp(k[t] - q)
        num, den, p = decay * num + w_in * v[t], decay * den + w_in, q
    return out, (num, den, p)


def draw_loss(folder):
    """Draw the loss over the steps of a training run."""
    run = Run.load(Path(folder) / "training.safetensors")
    ax = plots.loss_curve(np.arange(1, len(run.losses) + 1), run.losses, *zip(*run.validations, strict=True),
                          unit="nats per character")
    ax.set_ylim(1.0, 2.2)
    return ax.figure


if __name__ == "__main__":
    if sys.argv[1:]:
        figures = {"shakespeare": draw_loss(sys.argv[1])}
    else:
        model = rwkv_np.load()
        figures = {"state": draw_state(model), "attention": draw_attention(model), "float32": draw_float32(),
                   "cascade": plots.wavefront(4, 6), "block": plots.block_diagram(),
                   "package": plots.package_map().figure}
    with plots.style():
        for name, figure in figures.items():
            figure.savefig(DOCS / f"{name}.png")
