"""``convert``: write a model in another format or another dtype."""

from pathlib import Path

from .. import save, save_hf
from ..files.sources import has_file_ending
from .common import UsageError, add_model_options, read_model
from .output import reserve

WRITTEN = (".pth", ".safetensors")


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser(
        "convert", help="write a model for PyTorch or Hugging Face, or in another dtype",
        description="Read a model and write it as OUT: a .pth file that PyTorch, the official runtime and the official "
                    "trainer read, a .safetensors file, or else a folder for Hugging Face's transformers.")
    add_model_options(parser)
    parser.add_argument("out", metavar="OUT", help="NAME.pth, NAME.safetensors, or a new folder")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), help="(default: float32)")
    return parser


def run(options):
    """Convert the model; nothing that exists is overwritten."""
    is_file = Path(options.out).suffix in WRITTEN
    if has_file_ending(options.out) and not is_file:
        raise UsageError(f"OUT is {options.out} but must end in {' or '.join(WRITTEN)}, or name a folder")
    with reserve("OUT", options.out, folder=not is_file) as out:
        model = read_model(options)
        (save if is_file else save_hf)(model, out, options.dtype)
    print(f"{options.out}: {sum(p.size for p in model.params.values()):,} parameters in {options.dtype or 'float32'}, "
          + ("with its tokenizer" if model.tokenizer else "without a tokenizer"))
