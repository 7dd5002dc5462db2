"""``train``: train or fine-tune a model on a text."""

import contextlib
from dataclasses import fields, replace
from pathlib import Path

from .. import load, save
from ..language_model import LanguageModel
from ..text import corpora, tokenizer
from ..training import CONFIGS, Diverged, Run, TrainConfig, WorkerDied, default_count, evaluate, train
from ..training.config import read_reasons
from .common import UsageError, command_line, set_tokenizer
from .output import new_folder

SIZES = {"d_model": 128, "n_layer": 4}                  # of a new model
# The options that say what a new model is, and the settings of training; neither applies everywhere.
NEW_MODEL = ("generation", "d_model", "n_layer", "head_size")
SETTINGS = tuple(field.name for field in fields(TrainConfig))


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser(
        "train", help="train a model on a text file, or on the text that comes with Python",
        description="Train a model and leave OUT/model.safetensors (the best weights) and OUT/training.safetensors "
                    "(to continue from). Ctrl-C, SIGTERM and SIGHUP finish the step and save.")
    parser.add_argument("--text", metavar="FILE",
                        help="a text, whose last tenth is held out; or a .jsonl file or a folder of texts, of which "
                             "about a tenth of the documents are held out (default: Python's help topics)")
    parser.add_argument("--out", metavar="DIR", help="folder (default: out/model; never overwritten)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--from", dest="start", metavar="MODEL", help="start from these weights: fine-tuning")
    start.add_argument("--resume", metavar="DIR", help="continue the interrupted run in this folder")
    parser.add_argument("--tokenizer", metavar="KIND",
                        help="characters, bytes, bpe:SIZE to train one, or a tokenizer's file "
                             "(default: characters; with --from the model's own)")
    parser.add_argument("--config", choices=sorted(CONFIGS), help="a named configuration; options given beside it "
                                                                  "take precedence")
    parser.add_argument("--generation", type=int, choices=(4, 5, 6, 7), help="of RWKV (default: 4)")
    parser.add_argument("--d-model", type=int, metavar="N", help=f"channels (default: {SIZES['d_model']})")
    parser.add_argument("--n-layer", type=int, metavar="N", help=f"layers (default: {SIZES['n_layer']})")
    parser.add_argument("--head-size", type=int, metavar="N", help="channels of a head, in generations 5 to 7 "
                                                                   "(default: 64, or all channels if they are fewer)")
    reasons = read_reasons()
    for field in fields(TrainConfig):
        default = "one per core, at most 4" if field.name == "workers" else field.default
        parser.add_argument(option(field.name), type=field.type, metavar="N" if field.type is int else "X",
                            help=f"{reasons.get(field.name, '')} (default: {default})".replace("%", "%%"))
    return parser


def run(options):
    """Train as the options say; the exit code is 130 if Ctrl-C stopped it."""
    refuse_what_does_not_apply(options)
    if options.resume is not None:
        folder = contextlib.nullcontext(Path(options.resume))
    else:
        folder = new_folder("--out", options.out, "out/model")
    with folder as out:
        corpus = corpora.load(options.text)
        training = start_run(options, corpus) if options.resume is None else resume_run(out, corpus)
        tokens, validation = corpus.encode(training.model.tokenizer)
        del corpus                                      # the text is not needed any more
        check_length(tokens, validation, training.config.context_length)
        return train_in(out, training, tokens, validation, options.text)


def train_in(out, training, tokens, validation, text):
    """Train and save in a folder; print what to do next. Returns the exit code."""
    count = sum(p.size for p in training.model.params.values())
    print(f"{count:,} parameters, {len(tokens):,} tokens to train on, {len(validation):,} held out; into {out}/")
    resume = command_line("train", "--resume", out, *(["--text", text] if text is not None else []))

    def keep(run):
        run.save(out / "training.safetensors")
        save(run.best_model(), out / "model.safetensors")

    try:
        train(training, tokens, validation, save=keep)
    except Diverged as error:
        raise UsageError(f"{error}; the best weights so far are in {out / 'model.safetensors'}") from None
    except WorkerDied as error:
        saved = (out / "training.safetensors").exists()
        how = f"; the run is saved up to its last validation, continue with: {resume}" if saved else ""
        raise WorkerDied(str(error).splitlines()[0] + how) from None
    if training.interrupted:
        with contextlib.suppress(OSError):              # the terminal may be gone
            print(f"stopped at step {training.step} and saved; continue with: {resume}")
        return 128 + training.interrupted
    model, context_length = training.best_model(), training.config.context_length
    reset, carried = (evaluate(model, validation, context_length, carry=carry) for carry in (False, True))
    print(f"best held-out loss {reset:.4f} nats per token, {carried:.4f} with the state carried on; "
          f"{training.seconds:.0f} s of training\n"
          f"now: {command_line('generate', '--model', out / 'model.safetensors')}")
    return 0


def refuse_what_does_not_apply(options):
    """Raise a UsageError for an option that would have no effect beside the others."""
    if options.resume is not None:
        names = ("out", "tokenizer", "config", *NEW_MODEL, *SETTINGS)
        reason = "--resume continues a run with its own model and configuration"
    elif options.start is not None:
        names, reason = NEW_MODEL, "--from starts from a model that has its sizes"
    else:
        names, reason = (), ""
    for name in names:
        if getattr(options, name) is not None:
            raise UsageError(f"{reason}; leave out {option(name)}")


def resume_run(out, corpus):
    """Return the interrupted run in a folder."""
    run = Run.load(out / "training.safetensors")
    if run.model.tokenizer is None:
        raise UsageError(f"the run in {out} has no tokenizer, so it cannot be continued on a text")
    metadata = run.model.metadata
    if metadata.get("corpus_sha256", corpus.metadata["corpus_sha256"]) != corpus.metadata["corpus_sha256"]:
        raise UsageError(f"the run in {out} read another text ({metadata.get('corpus')}); "
                         "give the same one with --text")
    return run


def start_run(options, corpus):
    """Return a new run, from random weights or from a model's."""
    sizes, config = CONFIGS.get(options.config, (SIZES, TrainConfig()))
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    config = replace(config, **given)
    if options.config is None and options.workers is None:
        config.workers = default_count(config.batch_size)
    if options.start is not None:
        model = load_start(options.start, options.tokenizer)
    else:
        chosen = {name: getattr(options, name) for name in NEW_MODEL if getattr(options, name) is not None}
        if chosen.get("generation") not in (None, sizes.get("generation", chosen.get("generation"))):
            raise UsageError(f"--config {options.config} is for RWKV-{sizes['generation']}; leave out --generation")
        its_tokenizer = make_tokenizer("characters" if options.tokenizer is None else options.tokenizer, corpus)
        model = new_model(its_tokenizer, config.seed, **{"generation": 4} | sizes | chosen)
    kept = {name: value for name, value in model.metadata.items() if name == "group_norm_epsilon"}
    model.metadata = kept | corpus.metadata | ({} if options.start is None else {"started_from": options.start})
    return Run.start(model, config)


def load_start(name, tokenizer_file):
    """Return the model to fine-tune, with its own tokenizer or that of a file."""
    model = load(name)
    if tokenizer_file is not None:
        if tokenizer_file == "characters" or tokenizer_file.startswith("bpe:"):
            raise UsageError(f"--from starts from a model whose vocabulary is given; --tokenizer {tokenizer_file} "
                             "would make another one. Leave it out, or name the tokenizer's file")
        set_tokenizer(model, tokenizer_file)
    if model.tokenizer is None:
        raise UsageError(f"{name} has no tokenizer; name its file with --tokenizer")
    return model


def new_model(its_tokenizer, seed, generation, **sizes):
    """Return a model of a generation with random weights, for a tokenizer."""
    if generation not in LanguageModel.classes:
        known = ", ".join(map(str, sorted(LanguageModel.classes)))
        raise UsageError(f"--generation is {generation} but what can be trained here is {known}")
    if "head_size" in sizes and generation == 4:
        raise UsageError("--head-size is for generations 5 to 7; RWKV-4 has no heads")
    model = LanguageModel.classes[generation].init(its_tokenizer.vocab_size, **sizes, seed=seed)
    model.tokenizer = its_tokenizer
    return model


def make_tokenizer(kind, corpus):
    """Return a new tokenizer of a kind for a text, or the one of a file.

    Examples
    --------
    >>> make_tokenizer("bytes", None).vocab_size
    256
    """
    if kind == "bytes":
        return tokenizer.Bytes()
    if kind == "characters":
        documents = (*corpus.train_documents, *corpus.validation_documents)
        separator = set() if corpus.is_cut else {"\n"}
        return tokenizer.Characters("".join(separator.union(*map(set, documents))))
    if kind.startswith("bpe:") and kind[4:].isdigit():
        return tokenizer.BPE.train(corpus.train, int(kind[4:]))
    if not Path(kind).is_file():
        raise UsageError(f"--tokenizer is {kind!r} but must be characters, bytes, bpe:SIZE, or a file")
    return tokenizer.load(kind)


def check_length(tokens, validation, context_length):
    """Raise a UsageError for a text that is too short to be trained on."""
    if len(tokens) < context_length + 1 or len(validation) < 2:
        raise UsageError(f"the text is too short: {len(tokens)} tokens to train on and {len(validation)} held out, "
                         f"but a context of {context_length} needs at least {context_length + 1} and 2")


def option(name):
    """Return the option for a field.

    Examples
    --------
    >>> option("max_steps")
    '--max-steps'
    """
    return "--" + name.replace("_", "-")
