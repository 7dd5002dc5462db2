"""``eval``: measure how well a model predicts a text."""

import math
from pathlib import Path

import numpy as np

from ..training import TrainConfig, evaluate, stored_config
from .common import UsageError, add_model_options, load_model


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("eval", help="measure how well a model predicts a text")
    add_model_options(parser)
    parser.add_argument("--text", required=True, metavar="FILE", help="UTF-8 text")
    parser.add_argument("--context-length", type=int, metavar="N",
                        help="length of the windows (default: as in training, or 64)")
    return parser


def run(options):
    """Print loss, bits per byte and perplexity, with the state reset at each window and carried on."""
    model = load_model(options)
    try:
        text = Path(options.text).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{options.text} is not UTF-8 text") from None
    tokens = np.array(model.tokenizer.encode(text), dtype=np.int64)
    if len(tokens) < 2:
        raise UsageError(f"{options.text} has {len(tokens)} tokens; at least 2 are needed, one to predict the other")
    context_length = options.context_length or trained_context_length(model)
    bytes_predicted = len(model.tokenizer.decode_bytes(tokens[1:]))
    print(f"{len(tokens) - 1:,} tokens, {bytes_predicted:,} bytes, windows of {context_length}\n"
          f"{'state':<28}{'nats/token':>12}{'bits/byte':>12}{'perplexity':>12}")
    for name, carry in (("reset at each window", False), ("carried from window to window", True)):
        nats = evaluate(model, tokens, context_length, carry=carry)
        bits = nats * (len(tokens) - 1) / bytes_predicted / math.log(2)
        print(f"{name:<30}{nats:>10.4f}{bits:>12.4f}{math.exp(min(nats, 700)):>12.2f}")


def trained_context_length(model):
    """Return the context length that a model was trained with, or the default if it does not say."""
    known = {"train_config", "recipe"} & set(model.metadata)
    return (stored_config(model.metadata) if known else TrainConfig()).context_length
