"""``check``: judge the results that a kernel in another language computed from the test vectors."""

from ..testing.vectors import check


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("check", help="judge another program's results on the test vectors")
    parser.add_argument("folder", metavar="DIR", help="with results.safetensors beside what `vectors` wrote")
    return parser


def run(options):
    """Print the report; the exit code is 1 if anything is wrong."""
    report = check(options.folder)
    print(report)
    return 0 if report else 1
