"""``eval``: measure how well a model predicts a text."""

import math
from pathlib import Path

import numpy as np

from ..text import corpora
from ..text.encoding import encode_to_ids
from ..training import TrainConfig, stored_config, token_losses
from .common import UsageError, add_model_options, load_model


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("eval", help="measure how well a model predicts a text")
    add_model_options(parser)
    parser.add_argument("--text", required=True, metavar="FILE", help="a text, a .jsonl file, or a folder of texts")
    parser.add_argument("--context-length", type=int, metavar="N",
                        help="length of the windows (default: as in training, or 64)")
    parser.add_argument("--per-token", action="store_true",
                        help="print the loss of each token too, with the state carried on")
    return parser


def run(options):
    """Print loss, bits per byte and perplexity, with the state reset at each window and carried on."""
    model = load_model(options)
    tokens = read_tokens(options.text, model.tokenizer)
    if len(tokens) < 2:
        raise UsageError(f"{options.text} has {len(tokens)} tokens; at least 2 are needed, one to predict the other")
    context_length = trained_context_length(model) if options.context_length is None else options.context_length
    with np.errstate(over="ignore", invalid="ignore"):      # what comes of it is looked at below
        losses = {"reset at each window": token_losses(model, tokens, context_length),
                  "carried from window to window": token_losses(model, tokens, context_length, carry=True)}
    for nats in losses.values():
        if not np.isfinite(nats.mean()):
            raise UsageError(f"the loss is {nats.mean()}, at token {int((~np.isfinite(nats)).argmax()) + 1}: the "
                             f"weights of {options.model or 'the model'} are not those of a model that works")
    if options.per_token:
        print_per_token(model.tokenizer, tokens, losses["carried from window to window"])
    bytes_predicted = len(model.tokenizer.decode_bytes(tokens[1:]))
    print(f"{len(tokens) - 1:,} tokens, {bytes_predicted:,} bytes, windows of {context_length}\n"
          f"{'state':<28}{'nats/token':>12}{'bits/byte':>12}{'perplexity':>12}")
    for name, nats in losses.items():
        bits = nats.sum() / max(bytes_predicted, 1) / math.log(2)
        print(f"{name:<30}{nats.mean():>10.4f}{bits:>12.4f}{math.exp(min(nats.mean(), 700)):>12.2f}")


def read_tokens(path, tokenizer):
    """Return the ids of a text, or of the documents of a ``.jsonl`` file or a folder."""
    if Path(path).is_dir():
        corpus = corpora.from_folder(path)
        documents = corpus.train_documents + corpus.validation_documents
    else:
        documents = corpora.read_documents(path)
    return encode_to_ids(tokenizer, documents[0] if len(documents) == 1 else documents)


def print_per_token(tokenizer, tokens, losses):
    """Print a line for each predicted token: its place, its loss, and its label."""
    print(f"{'token':>8}{'nats':>10}  text")
    for place, (token, nats) in enumerate(zip(tokens[1:].tolist(), losses, strict=True), start=1):
        print(f"{place:>8}{nats:>10.4f}  {tokenizer.token(token)}")
    print()


def trained_context_length(model):
    """Return the context length that a model was trained with, or the default if it does not say."""
    known = {"train_config", "recipe"} & set(model.metadata)
    return (stored_config(model.metadata) if known else TrainConfig()).context_length
