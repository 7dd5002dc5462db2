"""``vectors``: write test vectors for kernels in other languages."""

from pathlib import Path

from ..testing.vectors import write
from .common import UsageError


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("vectors", help="write test vectors for WKV-4 kernels in other languages")
    parser.add_argument("folder", metavar="DIR", help="a new folder; docs/kit.md describes what is in it")
    return parser


def run(options):
    """Write the test vectors into a new folder."""
    if Path(options.folder).exists():
        raise UsageError(f"{options.folder} exists; name a new folder")
    print(f"{write(options.folder)} cases are in {options.folder}/")
