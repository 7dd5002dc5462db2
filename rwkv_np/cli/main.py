"""The command line: build the parser, run the command that was asked for, turn errors into one line."""

import argparse
import sys

from ..training import keep_freed_memory
from . import check, convert, cost, demo, eval, generate, info, train, vectors
from .common import UsageError, program

COMMANDS = (demo, train, eval, generate, convert, info, cost, vectors, check)


def make_parser():
    """Return the parser of the whole command line.

    Examples
    --------
    >>> make_parser().parse_args(["generate", "--seed", "3"]).seed
    3
    """
    parser = argparse.ArgumentParser(
        prog=program(), description="RWKV, the RNN that trains like a Transformer, in plain NumPy.",
        epilog=f"{program()} COMMAND --help explains each command.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands).set_defaults(run=command.run)
    return parser


def main(arguments=None):
    """Run a command; the exit code is 2 for wrong usage, 130 after Ctrl-C.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit code.

    Examples
    --------
    >>> main(["info", "--size", "50277,768,12"])
    RWKV-4, vocabulary 50,277, 768 channels, 12 layers
      ...
    0
    """
    options = make_parser().parse_args(arguments)
    keep_freed_memory()
    try:
        return options.run(options) or 0
    except (UsageError, ValueError, TypeError, OSError) as error:
        print(f"{program()}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
