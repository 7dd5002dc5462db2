"""``info``: describe a model, or count what a model of any size would have."""

import numpy as np

from .. import load
from ..study import cost, trace
from .common import UsageError

PARTS = {"embedding": ("emb.", ".ln0."), "time mixing": (".att.", ".ln1."), "channel mixing": (".ffn.", ".ln2."),
         "head": ("head.", "ln_out.")}


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("info", help="show sizes, parameters, state and half-lives of a model, or of any size")
    parser.add_argument("--model", metavar="MODEL", help="(default: the small one included in the package)")
    parser.add_argument("--size", metavar="V,D,L", help="instead: counts for vocabulary V, D channels and L layers, "
                                                        "e.g. 50277,768,12, or for a Pile model, e.g. 169M")
    return parser


def run(options):
    """Print the description."""
    if options.size:
        describe_size(options.size)
        return
    model = load(options.model)
    params = model.params
    print(f"{options.model or 'python-help'}: RWKV-4, {model.n_layer} layers, {model.d_model} channels, "
          f"d_ffn {model.d_ffn}, vocabulary {model.vocab_size}")
    for part, marks in PARTS.items():
        count = sum(a.size for name, a in params.items() if any(mark in name for mark in marks))
        print(f"  {part:<16}{count:>14,}")
    print(f"  {'all parameters':<16}{sum(a.size for a in params.values()):>14,}")
    print(*cost.describe(model.vocab_size, model.d_model, model.n_layer, model.d_ffn, model.d_att), sep="\n")
    print("half-lives of the past, in tokens, over the channels of each layer:")
    print(f"  {'layer':<8}{'shortest':>10}{'median':>10}{'longest':>12}")
    for layer, half_lives in enumerate(trace.half_lives(model)):
        print(f"  {layer:<8}{half_lives.min():>10.2f}{np.median(half_lives):>10.2f}{half_lives.max():>12.1f}")
    for name, value in model.metadata.items():
        print(f"{name}: {value}")


def describe_size(size):
    """Print the counts for a model of the size ``V,D,L``, or of the size of a published model."""
    n_layer, d_model = cost.PILE.get(size, (None, None))
    try:
        sizes = (50277, d_model, n_layer) if n_layer else tuple(int(n) for n in size.split(","))
        if len(sizes) != 3 or min(sizes) < 1:
            raise ValueError
    except ValueError:
        raise UsageError(f"--size is {size!r} but must be V,D,L or one of {', '.join(cost.PILE)}") from None
    print("RWKV-4, vocabulary {:,}, {:,} channels, {:,} layers".format(*sizes), *cost.describe(*sizes), sep="\n  ")
