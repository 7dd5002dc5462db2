"""``cost``: measure what RWKV-4 costs beside softmax attention, and draw it."""

from ..study import cost_report
from .output import new_folder


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("cost", help="measure what RWKV-4 costs beside softmax attention, and draw it")
    parser.add_argument("--quick", action="store_true", help="shorter sequences, under 20 seconds")
    parser.add_argument("--out", metavar="DIR", help="folder for the pictures (default: out/cost; never overwritten)")
    return parser


def run(options):
    """Measure, print and draw."""
    with new_folder("--out", options.out, "out/cost") as out:
        cost_report.run(options.quick, out)
