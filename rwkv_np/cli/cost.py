"""``cost``: measure what RWKV-4 costs beside softmax attention, and draw it."""

from ..study import cost


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("cost", help="measure what RWKV-4 costs beside softmax attention, and draw it")
    parser.add_argument("--quick", action="store_true", help="shorter sequences, under 20 seconds")
    parser.add_argument("--out", default="out/cost", help="folder for the pictures (default: %(default)s)")
    return parser


def run(options):
    """Measure, print and draw."""
    cost.run(options.quick, options.out)
