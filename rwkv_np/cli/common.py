"""What several commands share: the error for wrong usage, the options that name a model, how to call the program."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from .. import load
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
    """Add ``--model`` and ``--tokenizer`` to a parser."""
    parser.add_argument("--model", metavar="MODEL", help=".pth, .safetensors, Hugging Face folder or Hub id "
                                                         "(default: the small one included in the package)")
    parser.add_argument("--tokenizer", metavar="FILE", help="for a model without one: its file, or the word bytes")


def load_model(options):
    """Return the model that ``--model`` and ``--tokenizer`` name, with its tokenizer."""
    model = load(options.model)
    if options.tokenizer is not None:
        set_tokenizer(model, options.tokenizer)
    if model.tokenizer is None:
        raise UsageError(f"{options.model} has no tokenizer; name one with --tokenizer")
    return model


def set_tokenizer(model, name: str):
    """Give a model the tokenizer of a file, or the one called bytes; it must fit the model's vocabulary."""
    model.tokenizer = tokenizer.Bytes() if name == "bytes" else tokenizer.load(name)
    if not model.tokenizer.fits(model.vocab_size):
        raise UsageError(f"--tokenizer: {name} has {model.tokenizer.vocab_size} tokens but the model a vocabulary "
                         f"of {model.vocab_size}")
