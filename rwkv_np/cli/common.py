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


def program():
    """Return how this program was called: ``rwkv-np`` or ``python -m rwkv_np``.

    Examples
    --------
    >>> program()
    'python -m rwkv_np'
    """
    return "rwkv-np" if Path(sys.argv[0]).stem == "rwkv-np" else "python -m rwkv_np"


def command_line(*arguments):
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
    here = sys.argv[0] if called == "rwkv-np" else sys.executable or called
    name = Path(here).stem if sys.platform == "win32" else Path(here).name
    path = Path(here)
    if shutil.which(name) == here:
        shown = name
    else:
        shown = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    words = [shown, *rest, *map(str, arguments)]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def add_model_options(parser):
    """Add ``--model`` and ``--tokenizer`` to a parser."""
    parser.add_argument("--model", metavar="MODEL", help=".pth, .safetensors, Hugging Face folder or Hub id "
                                                         "(default: the small one included in the package)")
    parser.add_argument("--tokenizer", metavar="FILE", help="for a model without one: its file, or the word bytes")


def load_model(options):
    """Return the model that ``--model`` and ``--tokenizer`` name, with its tokenizer."""
    model = load(options.model)
    if options.tokenizer:
        model.tokenizer = tokenizer.Bytes() if options.tokenizer == "bytes" else tokenizer.load(options.tokenizer)
        if not model.tokenizer.fits(model.vocab_size):
            raise UsageError(f"{options.tokenizer} has {model.tokenizer.vocab_size} tokens but the model a vocabulary "
                             f"of {model.vocab_size}")
    if model.tokenizer is None:
        raise UsageError(f"{options.model} has no tokenizer; name one with --tokenizer")
    return model
