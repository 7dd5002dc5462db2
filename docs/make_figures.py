"""Draw the pictures of README and docs from the model that comes along: python docs/make_figures.py

Those with measured times are drawn by the commands that measure: `python -m rwkv_np cost`, `python -m benchmarks`.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import rwkv_np
from rwkv_np import plots, trace, wkv4

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


if __name__ == "__main__":
    model = rwkv_np.load()
    with plots.style():
        figures = {"state": state(model), "attention": attention(model), "cascade": plots.cascade(4, 6)}
        for name, figure in figures.items():
            figure.savefig(DOCS / f"{name}.png")
