"""Shared by several commands: the error for wrong usage, the options that name a model, how to call the program."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from .. import load
from ..files.bundled import BUNDLED_MODELS
from ..text import tokenizer


class UsageError(Exception):
    """Say in one line what the user must change; the exit code is 2."""


def program() -> str:
    """Return how this program was called: ``rwkv-np`` or ``python -m rwkv_np``.

    Examples
    --------
    >>> program()
    'python -m rwkv_np'
    """
    return "rwkv-np" if Path(sys.argv[0]).stem == "rwkv-np" else "python -m rwkv_np"


def command_line(*arguments) -> str:
    """Return a command of this program, quoted for the shell, as text to be copied.

    The program is named such that the same installation is found again: by its path, where the search path of the
    shell leads to another one or to none.

    Parameters
    ----------
    *arguments : str or path
        The words after the program's name.

    Examples
    --------
    >>> command_line("info").endswith("rwkv_np info")
    True
    """
    called, *rest = program().split()
    here = Path(sys.argv[0] if called == "rwkv-np" else sys.executable or called)
    windows = sys.platform == "win32"
    name = here.stem if windows else here.name
    if shutil.which(name) == str(here):
        shown = name
    else:
        shown = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    words = [str(word) for word in (shown, *rest, *arguments)]
    return subprocess.list2cmdline(words) if windows else shlex.join(words)


def add_model_options(parser):
    """Add ``--model`` or ``--generation`` to a parser, and ``--tokenizer``, ``--adapter``, ``--alpha``."""
    model = parser.add_mutually_exclusive_group()
    included = " or ".join(f"{path.stem} (RWKV-{generation})" for generation, path in BUNDLED_MODELS.items())
    model.add_argument("--model", metavar="MODEL", help=".pth, .safetensors, Hugging Face folder, Hub id, or a small "
                                                        f"model in the package: {included}")
    model.add_argument("--generation", type=int, choices=sorted(BUNDLED_MODELS),
                       help="the model in the package of this generation (default: 4)")
    parser.add_argument("--tokenizer", metavar="FILE", help="for a model without one: its file, or the word bytes")
    parser.add_argument("--adapter", metavar="FILE", help="a LoRA adapter to merge into the model: a folder of PEFT "
                                                          "or a file of RWKV-PEFT")
    parser.add_argument("--alpha", type=float, metavar="X", help="of the adapter, if it does not say: its update is "
                                                                 "scaled by alpha / rank")


def read_model(options):
    """Return the model that the options of `add_model_options` describe."""
    if options.alpha is not None and options.adapter is None:
        raise UsageError("--alpha is for --adapter; leave it out")
    path = options.model if options.generation is None else BUNDLED_MODELS[options.generation]
    model = load(path, adapter=options.adapter, alpha=options.alpha)
    if options.tokenizer is not None:
        set_tokenizer(model, options.tokenizer)
    return model


def load_model(options):
    """Return the model that the options of `add_model_options` describe; without a tokenizer, a UsageError."""
    model = read_model(options)
    if model.tokenizer is None:
        raise UsageError(f"{options.model} has no tokenizer; name one with --tokenizer")
    return model


def set_tokenizer(model, name: str):
    """Give a model the tokenizer of a file, or the one called bytes; it must fit the model's vocabulary."""
    model.tokenizer = tokenizer.Bytes() if name == "bytes" else tokenizer.load(name)
    if not model.tokenizer.fits(model.vocab_size):
        raise UsageError(f"--tokenizer: {name} has {model.tokenizer.vocab_size} tokens but the model a vocabulary "
                         f"of {model.vocab_size}")
