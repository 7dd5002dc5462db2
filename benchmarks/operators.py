"""The operators: forward, and forward and backward, against other implementations; time against length.

Forward is `vjp`, which prepares for the gradient, as PyTorch under autograd does.
"""

import os

import numpy as np

from rwkv_np import wkv4, wkv6, wkv7

from .rounds import Row, measure

B, T, H, N = (2, 64, 8, 64) if os.environ.get("RWKV_NP_QUICK") else (8, 256, 8, 64)
SIZE = f"B {B}, T {T}, {H} heads of {N}"
LONG = (8192, 1024), (16384, 2048)                  # lengths that are compared

ROWS = [
    Row(f"WKV-4 forward, B {B}, T {T}, C {H * N}", "operators:forward:4", "transformers",
        "peers_operators:forward:4:transformers", "faster", 2),
    Row("WKV-4 forward + backward", "operators:both:4", "transformers",
        "peers_operators:both:4:transformers", "faster", 20),
    *(Row(f"WKV-{g} {does}", f"operators:{function}:{g}", against, f"peers_operators:{function}:{g}:{peer}",
          "faster", goal)
      for g in "67" for function, does, peer, against, goal in (
          ("forward", f"forward, {SIZE}", "loop", "the loop in PyTorch", 5),
          ("forward", "forward", "fla", "fla, naive chunks", 3),
          ("both", "forward + backward", "loop", "the loop in PyTorch", 10),
          ("both", "forward + backward", "fla", "fla, naive chunks", 3))
      if (g, function, peer) != ("6", "both", "fla")),      # fla's function cannot be differentiated: see the page
    *(Row(f"WKV-{g} forward + backward, B 1, T {t}", f"operators:both:{g}:1:{t}", f"itself, T {s}",
          f"operators:both:{g}:1:{s}", "time", 8.5) for g in "567" for t, s in LONG),
]


def inputs(generation, batch=B, length=T):
    """Return the arguments of the generation's operator, float32, and the gradient of its output."""
    rng = np.random.default_rng(2)
    batch, length = int(batch), int(length)
    if generation == "4":
        w, u = np.exp(rng.uniform(-5, 1, H * N)), rng.standard_normal(H * N)
        k, v, dout = rng.standard_normal((3, batch, length, H * N))
        arguments = w, u, k, v
    else:
        shape = batch, length, H, N
        r, k, v, dout = rng.standard_normal((4, *shape))
        if generation == "7":
            lam = -np.exp(-0.5) * rng.uniform(size=shape)
            kappa = rng.standard_normal(shape)
            kappa /= np.sqrt(np.square(kappa).sum(-1, keepdims=True))
            arguments = r, lam, k / 8, v, -kappa, kappa * rng.uniform(size=shape)
        else:
            lam = -np.exp(rng.uniform(-6, 0, shape[2:] if generation == "5" else shape))
            arguments = r, lam, rng.standard_normal((H, N)), k / 8, v
    return [a.astype(np.float32) for a in arguments], dout.astype(np.float32)


OPERATORS = {"4": wkv4.vjp, "5": wkv6.vjp, "6": wkv6.vjp, "7": wkv7.vjp}


def forward(generation, *size):
    """Return a call that computes the output, ready for the gradient."""
    arguments, _ = inputs(generation, *size)
    return lambda: OPERATORS[generation](*arguments), 1


def both(generation, *size):
    """Return a call that computes the output and the gradient."""
    arguments, dout = inputs(generation, *size)
    return lambda: OPERATORS[generation](*arguments)[1](dout), 1


def run(setting):
    """Measure this part."""
    return {"rows": list(measure([row for row in ROWS if row.how != "time" or not setting.quick], setting))}
