"""Draw the pictures of README and docs from the model that comes along: python docs/make_figures.py

Those with measured times are drawn by the commands that measure: `python -m rwkv_np cost`, `python -m benchmarks`.
`python docs/make_figures.py out/model` draws the loss of that training run as shakespeare.png, and nothing else.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import rwkv_np
from rwkv_np import wkv4
from rwkv_np.study import plots, plots_lessons, trace
from rwkv_np.training import Run

DOCS = Path(__file__).parent
SENTENCE = "Return a new list from the items of the sequence."


def state(model):
    """The slowest layer while it reads: README's picture."""
    tokens = model.tokenizer.encode(SENTENCE)
    figure = Figure(layout="constrained", figsize=(9, 6))
    plots.state_heatmaps(trace.states(model, tokens), [model.tokenizer.token(t) for t in tokens],
                         layer=model.n_layer - 1, half_lives=trace.half_lives(model),
                         axes=figure.subplots(2, 1, sharex=True))
    return figure


def attention(model, text="the items of the sequence", layer=2):
    """A fast, a middling and a slow channel of one layer, as attention maps."""
    tokens = model.tokenizer.encode(text)
    w, u, k, _, _ = trace.operands(model, tokens)[layer]
    half_lives = np.log(2) / w
    chosen = [int(np.argmin(np.abs(np.log(half_lives / aim)))) for aim in (1, 5, 50)]
    weights = wkv4.all_pairs_weights(w, u, k)[chosen]
    names = [f"half-life {half_lives[c]:.1f} tokens" for c in chosen]
    return plots.attention_maps(weights, [model.tokenizer.token(t) for t in tokens], names)[0].figure


def float32(channels=16):
    """Errors of float32 forms over the length of the text, and the bound that docs/float32.md derives."""
    rng, lengths = np.random.default_rng(0), 2 ** np.arange(6, 15)
    w, u = np.full(channels, 3e-4, np.float32), np.zeros(channels, np.float32)
    k, v = rng.normal(0, 8, (lengths[-1], channels)), rng.normal(size=(lengths[-1], channels)).astype(np.float32)
    curves = {}
    for offset, forms in ((10_000, {"state in float32,\nkeys + 10000": float32_state}),
                          (0, {"state in float32": float32_state}),
                          (10_000, {"chunked, keys + 10000": wkv4.chunked, "recurrent, keys + 10000": wkv4.recurrent})):
        keys = (k + offset).astype(np.float32)
        exact = wkv4.recurrent(*(x.astype(np.float64) for x in (w, u, keys, v)))[0]
        for name, form in forms.items():
            error = np.abs(form(w, u, keys, v)[0] - exact).max(axis=1) / np.abs(v).max()
            curves[name] = np.maximum.accumulate(error)[lengths - 1]
    return plots_lessons.error_growth(lengths, curves, bound=(2 * 5 * 32 + 8) * 2.0**-24).figure


def float32_state(w, u, k, v):
    """The recurrence with its state in float32, in the order of operations that most kernels have."""
    num, den, p = np.zeros_like(w), np.zeros_like(w), np.full_like(w, -1e38)
    out = np.empty_like(k)
    for t in range(len(k)):
        q = np.maximum(p, u + k[t])
        past, now = np.exp(p - q), np.exp(u + k[t] - q)
        out[t] = (past * num + now * v[t]) / (past * den + now)
        q = np.maximum(p - w, k[t])
        past, now = np.exp(p - w - q), np.exp(k[t] - q)
        num, den, p = past * num + now * v[t], past * den + now, q
    return out, (num, den, p)


def loss(folder):
    """Loss over the steps of a run of the Shakespeare recipe."""
    run = Run.load(Path(folder) / "training.safetensors")
    ax = plots.loss_curve(np.arange(1, len(run.losses) + 1), run.losses, *zip(*run.validations, strict=True),
                          unit="nats per character")
    ax.set_ylim(1.0, 2.2)
    return ax.figure


if __name__ == "__main__":
    if sys.argv[1:]:
        with plots.style():
            loss(sys.argv[1]).savefig(DOCS / "shakespeare.png")
        sys.exit()
    model = rwkv_np.load()
    with plots.style():
        figures = {"state": state(model), "attention": attention(model), "cascade": plots.cascade(4, 6),
                   "float32": float32()}
        for name, figure in figures.items():
            figure.savefig(DOCS / f"{name}.png")
