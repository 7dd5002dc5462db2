"""The command line: build the parser, run the command that was asked for, turn errors into one line."""

import argparse
import contextlib
import errno
import os
import sys
import warnings

from ..files.errors import CheckpointWarning
from ..training import WorkerDied, keep_freed_memory
from ..training.signals import handle_stop_signals
from . import check, convert, cost, demo, eval, generate, info, train, vectors
from .common import UsageError, program

COMMANDS = (demo, train, eval, generate, convert, info, cost, vectors, check)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        """Raise a UsageError."""
        raise UsageError(f"{message}; {self.prog} --help explains")


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop."""

    def __init__(self, number):
        super().__init__(number)
        self.exit_code = 128 + number


def make_parser():
    """Return the parser of the whole command line.

    Examples
    --------
    >>> make_parser().parse_args(["generate", "--seed", "3"]).seed
    3
    """
    parser = Parser(prog=program(), description="RWKV, the RNN that trains like a Transformer, in plain NumPy.",
                    epilog=f"{program()} COMMAND --help explains each command.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands).set_defaults(run=command.run)
    return parser


def main(arguments=None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit code: 0; 1 for a result that is wrong, or a fault of the machine; 2 for what the user must change;
        128 + its number after a signal, 130 after Ctrl-C.

    Examples
    --------
    >>> main(["info", "--size", "50277,768,12"])
    RWKV-4, vocabulary 50,277, 768 channels, 12 layers
      ...
    0
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")        # a console that cannot show a character shows another one
    exit_code = _run(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if not is_closed_pipe(error):
            _say(error)
            return 2
    return exit_code


def _run(arguments):
    """Run a command; return the exit code, whatever happens."""
    try:
        with handle_stop_signals(_stop), warnings.catch_warnings():
            warnings.simplefilter("always", CheckpointWarning)
            warnings.showwarning = lambda message, *_: _say(f"note: {message}")
            options = make_parser().parse_args(arguments)
            keep_freed_memory()
            return options.run(options) or 0
    except SystemExit as done:                          # after --help
        return done.code or 0
    except KeyboardInterrupt as stopped:
        _say("interrupted", newline=True)
        return getattr(stopped, "exit_code", 130)
    except MemoryError as error:
        _say(f"out of memory{': ' if str(error) else ''}{error}; a smaller model, batch or context needs less")
        return 2
    except WorkerDied as error:
        _say(str(error).splitlines()[0])
        return 1
    except (UsageError, ArithmeticError, OSError, ValueError, TypeError) as error:
        if isinstance(error, OSError) and is_closed_pipe(error):
            _discard_output()
            return 0
        _say(error)
        return 2


def is_closed_pipe(error: OSError) -> bool:
    """Say whether an error means that nobody reads the output any more, as after ``| head -1``.

    Examples
    --------
    >>> is_closed_pipe(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    True
    """
    windows = sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or windows


def _stop(number):
    raise Stopped(number)


def _say(message, newline=False):
    with contextlib.suppress(OSError):                  # the terminal may be gone
        print("\n" * newline + f"{program()}: {message}", file=sys.stderr)


def _discard_output():
    """Send what is still in the buffers nowhere, so that Python does not try to write it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
