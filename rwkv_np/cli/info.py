"""``info``: describe a model, or count what a model of any size would have."""

import numpy as np

from .. import load
from ..study import cost, trace
from ..text import corpora
from .common import UsageError

PARTS = {"embedding": ("emb.", ".ln0."), "time mixing": (".att.", ".ln1."), "channel mixing": (".ffn.", ".ln2."),
         "head": ("head.", "ln_out.")}
MEASURED = 64           # tokens over which half-lives are measured that depend on the text


def add(commands):
    """Add the command to the command line; return its parser."""
    names = "; ".join(f"RWKV-{n}: {', '.join(sizes)}" for n, sizes in cost.SIZES.items())
    parser = commands.add_parser("info", help="show sizes, parameters, state and half-lives of a model, or of any size")
    parser.add_argument("--model", metavar="MODEL", help="(default: the small one included in the package)")
    parser.add_argument("--size", metavar="V,D,L", help="instead: counts for vocabulary V, D channels and L layers, "
                                                        f"e.g. 50277,768,12, or for a published model ({names})")
    parser.add_argument("--generation", type=int, choices=sorted(cost.SIZES), help="of --size (default: 4)")
    return parser


def run(options):
    """Print the description."""
    if options.size is not None:
        if options.model is not None:
            raise UsageError("--size describes a model of any size, without --model; leave one of them out")
        describe_size(options.size, 4 if options.generation is None else options.generation)
        return
    if options.generation is not None:
        raise UsageError("--generation is for --size; a model has its own. Leave it out")
    model = load(options.model)
    params = model.params
    print(f"{'python-help' if options.model is None else options.model}: RWKV-{model.generation}, {model.n_layer} "
          f"layers, {model.d_model} channels, d_ffn {model.d_ffn}, vocabulary {model.vocab_size}")
    for part, marks in PARTS.items():
        count = sum(a.size for name, a in params.items() if any(mark in name for mark in marks))
        print(f"  {part:<16}{count:>14,}")
    print(f"  {'all parameters':<16}{sum(a.size for a in params.values()):>14,}")
    print(*cost.describe(model), sep="\n")
    print_half_lives(model)
    for name, value in model.metadata.items():
        print(f"{name}: {value}")


def print_half_lives(model):
    """Print the half-lives of the past in each layer; where they depend on the text, on a text that is at hand."""
    tokens, measured = None, ""
    if model.generation >= 6:
        if model.tokenizer is None:
            return
        try:
            tokens = model.tokenizer.encode(corpora.embedded().train[:10 * MEASURED])[:MEASURED]
        except ValueError:                              # a vocabulary of other characters
            return
        measured = f", measured over {len(tokens)} tokens of Python's help topics"
    print(f"half-lives of the past, in tokens, over the channels of each layer{measured}:")
    print(f"  {'layer':<8}{'shortest':>10}{'median':>10}{'longest':>12}")
    for layer, half_lives in enumerate(trace.half_lives(model, tokens)):
        print(f"  {layer:<8}{half_lives.min():>10.2f}{np.median(half_lives):>10.2f}{half_lives.max():>12.1f}")


def describe_size(size, generation):
    """Print the counts for a model of the size ``V,D,L``, or of the size of a published model."""
    sizes = cost.SIZES[generation].get(size)
    if sizes is None:
        try:
            sizes = dict(zip(("vocab_size", "d_model", "n_layer"), map(int, size.split(",")), strict=True))
        except ValueError:
            raise UsageError(f"--size is {size!r} but must be V,D,L or one of "
                             f"{', '.join(cost.SIZES[generation])}") from None
    model = cost.model_of_size(generation, **sizes)
    print(f"RWKV-{generation}, vocabulary {model.vocab_size:,}, {model.d_model:,} channels, {model.n_layer:,} layers",
          *cost.describe(model), sep="\n  ")
