"""``vectors``: write test vectors for kernels in other languages."""

from ..testing.vectors import OPERATORS, write
from .common import UsageError
from .output import check_folder, remove_if_empty


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("vectors", help="write test vectors for kernels in other languages")
    parser.add_argument("folder", metavar="DIR", help="a new folder; docs/conformance.md describes what is in it")
    parser.add_argument("--operator", choices=sorted(OPERATORS), default="wkv4",
                        help="of RWKV-4; of 5 and 6; of 7 (default: %(default)s)")
    parser.add_argument("--no-state", action="store_true",
                        help="for kernels that know no states: no gradient of a final state is among the inputs")
    return parser


def run(options):
    """Write the test vectors into a new folder."""
    folder = check_folder("DIR", options.folder)
    if folder.exists():
        raise UsageError(f"DIR: {folder} exists; name a new folder")
    with remove_if_empty(folder):                       # after a fault
        count = write(folder, options.operator, supports_state=not options.no_state)
    print(f"{count} cases of {options.operator} are in {folder}/")
