"""The command line: python -m rwkv_np demo | train | eval | generate | convert | info | cost | vectors | check."""

import argparse
import math
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from ..training.loop import keep_freed_memory

EPILOG = "python -m rwkv_np COMMAND --help explains each command."


class UsageError(Exception):
    """What the user must change, in one line; the exit code is 2."""


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m rwkv_np", epilog=EPILOG,
        description="RWKV-4, the RNN that trains like a Transformer, in plain NumPy.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_demo(commands)
    add_train(commands)
    add_eval(commands)
    add_generate(commands)
    add_convert(commands)
    add_info(commands)
    add_cost(commands)
    add_vectors(commands)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    try:
        return options.run(options) or 0
    except (UsageError, ValueError, TypeError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def add_demo(commands):
    parser = commands.add_parser("demo", help="watch a model train, write, and prove that its two forms are one")
    parser.add_argument("--seconds", type=float, default=90, help="how long to train (default: %(default)s)")
    parser.add_argument("--out", default="out/demo", help="folder for model and pictures (default: %(default)s)")
    parser.set_defaults(run=lambda options: __import__("rwkv_np.cli.demo", fromlist=["run"]).run(
        options.seconds, options.out))


def add_train(commands):
    from ..training.loop import CONFIGS, TrainConfig

    parser = commands.add_parser(
        "train", help="train a model on a text file, or on the text that comes with Python",
        description="Trains an RWKV-4 and leaves OUT/model.safetensors (the best weights) and "
                    "OUT/training.safetensors (to go on from). Ctrl-C finishes the step and saves.")
    parser.add_argument("--text", metavar="FILE", help="UTF-8 text; its last tenth is held out (default: "
                                                       "Python's help topics)")
    parser.add_argument("--out", default="out/model", help="folder (default: %(default)s; never overwritten)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--from", dest="start", metavar="MODEL", help="start from these weights: fine-tuning")
    start.add_argument("--resume", metavar="OUT", help="go on with the interrupted run in this folder")
    parser.add_argument("--tokenizer", default="characters", metavar="KIND",
                        help="characters, bytes, or bpe:SIZE to train one (default: %(default)s)")
    parser.add_argument("--config", choices=sorted(CONFIGS), help="sizes and settings by name; what is given beside "
                                                                  "it still counts")
    parser.add_argument("--d-model", type=int, help="channels (default: 128)")
    parser.add_argument("--n-layer", type=int, help="layers (default: 4)")
    for field in fields(TrainConfig):
        default = "one a core, at most 4" if field.name == "workers" else field.default
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default), default=None,
                            metavar="N", help=f"(default: {default})")
    parser.set_defaults(run=run_train)


def run_train(options):
    from .. import load, save
    from ..rwkv4 import RWKV4
    from ..text import corpora
    from ..training.loop import CONFIGS, Run, TrainConfig, evaluate, train, unused_path
    from ..training.workers import default_count

    given = {f.name: getattr(options, f.name) for f in fields(TrainConfig) if getattr(options, f.name) is not None}
    corpus = corpora.from_file(options.text) if options.text else corpora.embedded()
    if options.resume:
        if given:
            raise UsageError(f"--resume goes on with the config of the run; leave out --{next(iter(given))}")
        out = Path(options.resume)
        run = Run.load(out / "training.safetensors")
        if run.model.metadata["corpus_sha256"] != corpus.metadata["corpus_sha256"]:
            raise UsageError(f"the run in {out} read another text ({run.model.metadata['corpus']}); "
                          "give the same one with --text")
    else:
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
            tokenizer = make_tokenizer(options.tokenizer, corpus)
            model = RWKV4.init(tokenizer.vocab_size, **sizes, seed=config.seed)
            model.tokenizer = tokenizer
        model.metadata = dict(corpus.metadata)
        out = unused_path(options.out)
        run = Run.start(model, config)
    encode = run.model.tokenizer.encode
    tokens, validation = np.array(encode(corpus.train)), np.array(encode(corpus.validation))
    if len(tokens) < run.config.context_length + 1 or len(validation) < 2:
        raise UsageError(f"the text is too short: {len(tokens)} tokens to train on and {len(validation)} held out, "
                      f"but a context of {run.config.context_length} needs at least "
                         f"{run.config.context_length + 1} and 2")
    out.mkdir(parents=True, exist_ok=True)
    count = sum(p.size for p in run.model.params.values())
    print(f"{count:,} parameters, {len(tokens):,} tokens to read, {len(validation):,} held out; into {out}/")

    def keep(run):
        run.save(out / "training.safetensors")
        save(run.best_model(), out / "model.safetensors")

    train(run, tokens, validation, save=keep)
    model = run.best_model()
    if run.interrupted:
        print(f"stopped at step {run.step} and saved; go on with: python -m rwkv_np train --resume {out}"
              + (f" --text {options.text}" if options.text else ""))
        return 130
    reset, carried = (evaluate(model, validation, run.config.context_length, carry=c) for c in (False, True))
    print(f"best held-out loss {reset:.4f} nats per token, {carried:.4f} with the state carried on; "
          f"{run.seconds:.0f} s of training\nnow: python -m rwkv_np generate --model {out}/model.safetensors")


def make_tokenizer(kind, corpus):
    from ..text import tokenizer

    if kind == "bytes":
        return tokenizer.Bytes()
    if kind == "characters":
        return tokenizer.Characters(corpus.train + corpus.validation)
    if kind.startswith("bpe:") and kind[4:].isdigit():
        return tokenizer.BPE.train(corpus.train, int(kind[4:]))
    raise UsageError(f"--tokenizer is {kind!r} but must be characters, bytes, or bpe:SIZE")


def add_model(parser):
    parser.add_argument("--model", metavar="MODEL", help=".pth, .safetensors, Hugging Face folder or Hub id "
                                                         "(default: the small one that comes with the package)")
    parser.add_argument("--tokenizer", metavar="FILE", help="where the model has none: its file, or the word bytes")


def load_with_tokenizer(options):
    from .. import load
    from ..text import tokenizer

    model = load(options.model)
    if options.tokenizer:
        model.tokenizer = tokenizer.Bytes() if options.tokenizer == "bytes" else tokenizer.load(options.tokenizer)
        if not model.tokenizer.fits(model.vocab_size):
            raise UsageError(f"{options.tokenizer} has {model.tokenizer.vocab_size} tokens but the model a vocabulary "
                          f"of {model.vocab_size}")
    if model.tokenizer is None:
        raise UsageError(f"{options.model} has no tokenizer; name one with --tokenizer")
    return model


def add_eval(commands):
    parser = commands.add_parser("eval", help="how well a model predicts a text")
    add_model(parser)
    parser.add_argument("--text", required=True, metavar="FILE", help="UTF-8 text")
    parser.add_argument("--context-length", type=int, help="window length (default: that of training, or 64)")
    parser.set_defaults(run=run_eval)


def run_eval(options):
    from ..training.loop import evaluate

    model = load_with_tokenizer(options)
    try:
        text = Path(options.text).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{options.text} is not UTF-8 text") from None
    tokens = np.array(model.tokenizer.encode(text), dtype=np.int64)
    if len(tokens) < 2:
        raise UsageError(f"{options.text} has {len(tokens)} tokens; at least 2 are needed, one to predict the other")
    context = options.context_length or trained_context(model)
    bytes_predicted = len(model.tokenizer.decode_bytes(tokens[1:]))
    print(f"{len(tokens) - 1:,} tokens, {bytes_predicted:,} bytes, windows of {context}\n"
          f"{'state':<28}{'nats/token':>12}{'bits/byte':>12}{'perplexity':>12}")
    for name, carry in (("reset at each window", False), ("carried from window to window", True)):
        nats = evaluate(model, tokens, context, carry=carry)
        bits = nats * (len(tokens) - 1) / bytes_predicted / math.log(2)
        print(f"{name:<30}{nats:>10.4f}{bits:>12.4f}{math.exp(min(nats, 700)):>12.2f}")


def trained_context(model):
    from ..training.loop import TrainConfig, stored_config

    known = {"train_config", "recipe"} & set(model.metadata)
    return (stored_config(model.metadata) if known else TrainConfig()).context_length


def add_generate(commands):
    parser = commands.add_parser("generate", help="let a model write")
    add_model(parser)
    parser.add_argument("--prompt", help="what it continues (default: a new line; with --load-state nothing)")
    parser.add_argument("--load-state", metavar="FILE", help="go on where a state was saved")
    parser.add_argument("--save-state", metavar="FILE", help="keep what the model remembers at the end: a .safetensors "
                                                             "file of a few kilobytes")
    parser.add_argument("--max-new-tokens", type=int, default=400, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="X",
                        help="below 1 safer, above 1 wilder, 0 always the likeliest (default: %(default)s)")
    parser.add_argument("--top-p", type=float, default=0.9, metavar="X",
                        help="choose among the likeliest that make up this share (default: %(default)s)")
    parser.add_argument("--top-k", type=int, default=0, metavar="N", help="and among at most N; 0: any number")
    parser.add_argument("--presence-penalty", type=float, default=0.0, metavar="X")
    parser.add_argument("--frequency-penalty", type=float, default=0.0, metavar="X")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=run_generate)


def run_generate(options):
    from .. import load_state, save_state
    from ..sampling import generate, stream_text

    model = load_with_tokenizer(options)
    state, pending = load_state(options.load_state) if options.load_state else (None, None)
    text = options.prompt if options.prompt is not None else "" if options.load_state else "\n"
    prompt = [pending] * (pending is not None) + model.tokenizer.encode(text)
    if not prompt:
        raise UsageError("--prompt is empty; the model needs at least one token to go on from")
    if options.save_state and Path(options.save_state).exists():
        raise UsageError(f"--save-state: {options.save_state} exists; name a new file")
    tokens = generate(model, prompt, options.max_new_tokens, options.temperature, options.top_p, options.top_k,
                      options.presence_penalty, options.frequency_penalty, seed=options.seed, state=state)
    try:
        print(text.lstrip("\n"), end="", flush=True)
        for piece in stream_text(tokens, model.tokenizer, tuple(options.stop)):
            print(piece, end="", flush=True)
        print()
    finally:                                            # after Ctrl-C too
        if options.save_state:
            save_state(tokens.state, options.save_state, tokens.last_token)


def add_convert(commands):
    parser = commands.add_parser(
        "convert", help="take a model to PyTorch, to Hugging Face, to another dtype",
        description="Reads a model and writes it as OUT: a .pth that PyTorch, the official runtime and the official "
                    "trainer read, a .safetensors file, or else a folder for Hugging Face's transformers.")
    add_model(parser)
    parser.add_argument("out", metavar="OUT", help="NAME.pth, NAME.safetensors, or a new folder")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), help="(default: float32)")
    parser.set_defaults(run=run_convert)


def run_convert(options):
    from .. import load, save, save_hf

    if Path(options.out).exists():
        raise UsageError(f"{options.out} exists; name a new file or folder")
    model = load_with_tokenizer(options) if options.tokenizer else load(options.model)
    (save if Path(options.out).suffix in (".pth", ".safetensors") else save_hf)(model, options.out, options.dtype)
    print(f"{options.out}: {sum(p.size for p in model.params.values()):,} parameters in {options.dtype or 'float32'}, "
          + ("with its tokenizer" if model.tokenizer else "without a tokenizer"))


def add_info(commands):
    parser = commands.add_parser("info", help="sizes, parameters by part, state, half-lives of a model, or of any size")
    parser.add_argument("--model", metavar="MODEL", help="(default: the small one that comes with the package)")
    parser.add_argument("--size", metavar="V,D,L", help="instead: counts for vocabulary V, D channels and L layers, "
                                                        "e.g. 50277,768,12, or for a Pile model, e.g. 169M")
    parser.set_defaults(run=run_info)


def run_info(options):
    from .. import load
    from ..study import cost

    if options.size:
        layers, channels = cost.PILE.get(options.size, (None, None))
        try:
            size = (50277, channels, layers) if layers else tuple(int(n) for n in options.size.split(","))
            if len(size) != 3 or min(size) < 1:
                raise ValueError
        except ValueError:
            raise UsageError(f"--size is {options.size!r} but must be V,D,L or one of {', '.join(cost.PILE)}") from None
        print("RWKV-4, vocabulary {:,}, {:,} channels, {:,} layers".format(*size), *cost.describe(*size), sep="\n  ")
        return
    model = load(options.model)
    p = model.params
    parts = {"embedding": ("emb.", ".ln0."), "time mixing": (".att.", ".ln1."), "channel mixing": (".ffn.", ".ln2."),
             "head": ("head.", "ln_out.")}
    print(f"{options.model or 'python-help'}: RWKV-4, {model.n_layer} layers, {model.d_model} channels, "
          f"d_ffn {model.d_ffn}, vocabulary {model.vocab_size}")
    for part, marks in parts.items():
        print(f"  {part:<16}{sum(a.size for name, a in p.items() if any(m in name for m in marks)):>14,}")
    print(f"  {'all parameters':<16}{sum(a.size for a in p.values()):>14,}")
    print(*cost.describe(model.vocab_size, model.d_model, model.n_layer, model.d_ffn, model.d_att), sep="\n")
    print("half-lives of the past, in tokens, over the channels of each layer:")
    print(f"  {'layer':<8}{'shortest':>10}{'median':>10}{'longest':>12}")
    for layer in range(model.n_layer):
        half = math.log(2) / np.exp(p[f"blocks.{layer}.att.time_decay"].astype(np.float64))
        print(f"  {layer:<8}{half.min():>10.2f}{np.median(half):>10.2f}{half.max():>12.1f}")
    for name, value in model.metadata.items():
        print(f"{name}: {value}")


def add_cost(commands):
    parser = commands.add_parser("cost", help="measure what RWKV-4 costs beside softmax attention, and draw it")
    parser.add_argument("--quick", action="store_true", help="shorter texts, under 20 seconds")
    parser.add_argument("--out", default="out/cost", help="folder for the pictures (default: %(default)s)")
    parser.set_defaults(run=run_cost)


def run_cost(options):
    from ..study import cost

    cost.run(options.quick, options.out)


def add_vectors(commands):
    parser = commands.add_parser("vectors", help="write test vectors for WKV-4 kernels in other languages")
    parser.add_argument("folder", metavar="DIR", help="a new folder; docs/kit.md describes what is in it")
    parser.set_defaults(run=run_vectors)
    parser = commands.add_parser("check", help="judge another program's results on these vectors")
    parser.add_argument("folder", metavar="DIR", help="with results.safetensors beside what `vectors` wrote")
    parser.set_defaults(run=run_check)


def run_vectors(options):
    from ..testing.vectors import write

    if Path(options.folder).exists():
        raise UsageError(f"{options.folder} exists; name a new folder")
    print(f"{write(options.folder)} cases are in {options.folder}/")


def run_check(options):
    from ..testing.vectors import check

    report = check(options.folder)
    print(report)
    return 0 if report else 1

