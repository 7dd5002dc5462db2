"""``train``: train or fine-tune a model on a text."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from .. import RWKV4, load, save
from ..text import corpora, tokenizer
from ..training import CONFIGS, Run, TrainConfig, default_count, evaluate, train
from .common import UsageError, command_line
from .output import unused_path


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser(
        "train", help="train a model on a text file, or on the text that comes with Python",
        description="Train a model and leave OUT/model.safetensors (the best weights) and OUT/training.safetensors "
                    "(to continue from). Ctrl-C finishes the step and saves.")
    parser.add_argument("--text", metavar="FILE", help="UTF-8 text; its last tenth is held out (default: "
                                                       "Python's help topics)")
    parser.add_argument("--out", default="out/model", help="folder (default: %(default)s; never overwritten)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--from", dest="start", metavar="MODEL", help="start from these weights: fine-tuning")
    start.add_argument("--resume", metavar="OUT", help="continue the interrupted run in this folder")
    parser.add_argument("--tokenizer", default="characters", metavar="KIND",
                        help="characters, bytes, or bpe:SIZE to train one (default: %(default)s)")
    parser.add_argument("--config", choices=sorted(CONFIGS), help="a named configuration; options given beside it "
                                                                  "take precedence")
    parser.add_argument("--d-model", type=int, metavar="N", help="channels (default: 128)")
    parser.add_argument("--n-layer", type=int, metavar="N", help="layers (default: 4)")
    for field in fields(TrainConfig):
        default = "one per core, at most 4" if field.name == "workers" else field.default
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default), default=None,
                            metavar="N", help=f"(default: {default})")
    return parser


def run(options):
    """Train as the options say; the exit code is 130 if Ctrl-C stopped it."""
    corpus = corpora.from_file(options.text) if options.text else corpora.embedded()
    training, out = resume_run(options, corpus) if options.resume else start_run(options, corpus)
    encode = training.model.tokenizer.encode
    tokens, validation = np.array(encode(corpus.train)), np.array(encode(corpus.validation))
    context_length = training.config.context_length
    if len(tokens) < context_length + 1 or len(validation) < 2:
        raise UsageError(f"the text is too short: {len(tokens)} tokens to train on and {len(validation)} held out, "
                         f"but a context of {context_length} needs at least {context_length + 1} and 2")
    out.mkdir(parents=True, exist_ok=True)
    count = sum(p.size for p in training.model.params.values())
    print(f"{count:,} parameters, {len(tokens):,} tokens to train on, {len(validation):,} held out; into {out}/")

    def keep(run):
        run.save(out / "training.safetensors")
        save(run.best_model(), out / "model.safetensors")

    train(training, tokens, validation, save=keep)
    if training.interrupted:
        text = ["--text", options.text] if options.text else []
        print(f"stopped at step {training.step} and saved; "
              f"continue with: {command_line('train', '--resume', out, *text)}")
        return 130
    model = training.best_model()
    reset, carried = (evaluate(model, validation, context_length, carry=carry) for carry in (False, True))
    print(f"best held-out loss {reset:.4f} nats per token, {carried:.4f} with the state carried on; "
          f"{training.seconds:.0f} s of training\n"
          f"now: {command_line('generate', '--model', out / 'model.safetensors')}")
    return 0


def given_settings(options):
    """Return the fields of `TrainConfig` that were given on the command line."""
    return {f.name: getattr(options, f.name) for f in fields(TrainConfig) if getattr(options, f.name) is not None}


def resume_run(options, corpus):
    """Return the interrupted run in a folder, and the folder."""
    if given := given_settings(options):
        option = next(iter(given)).replace("_", "-")
        raise UsageError(f"--resume continues with the configuration of the run; leave out --{option}")
    out = Path(options.resume)
    run = Run.load(out / "training.safetensors")
    if run.model.metadata["corpus_sha256"] != corpus.metadata["corpus_sha256"]:
        raise UsageError(f"the run in {out} read another text ({run.model.metadata['corpus']}); "
                         "give the same one with --text")
    return run, out


def start_run(options, corpus):
    """Return a new run, from random weights or from a model's, and the folder for it."""
    given = given_settings(options)
    sizes, config = CONFIGS.get(options.config, ({"d_model": 128, "n_layer": 4}, TrainConfig()))
    sizes = {name: getattr(options, name) or size for name, size in sizes.items()}
    config = replace(config, **given)
    if not options.config and "workers" not in given:
        config.workers = default_count(config.batch_size)
    if options.start:
        model = load(options.start)
        if model.tokenizer is None:
            raise UsageError(f"{options.start} has no tokenizer, so it cannot be trained on text")
    else:
        own = make_tokenizer(options.tokenizer, corpus)
        model = RWKV4.init(own.vocab_size, **sizes, seed=config.seed)
        model.tokenizer = own
    model.metadata = dict(corpus.metadata)
    return Run.start(model, config), unused_path(options.out)


def make_tokenizer(kind, corpus):
    """Return a new tokenizer of a kind, for a text.

    Examples
    --------
    >>> make_tokenizer("bytes", None).vocab_size
    256
    """
    if kind == "bytes":
        return tokenizer.Bytes()
    if kind == "characters":
        return tokenizer.Characters(corpus.train + corpus.validation)
    if kind.startswith("bpe:") and kind[4:].isdigit():
        return tokenizer.BPE.train(corpus.train, int(kind[4:]))
    raise UsageError(f"--tokenizer is {kind!r} but must be characters, bytes, or bpe:SIZE")
