"""``generate``: let a model continue a text."""

from pathlib import Path

from .. import load_state, save_state
from ..sampling import generate, stream_text
from .common import UsageError, add_model_options, load_model


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("generate", help="let a model continue a text")
    add_model_options(parser)
    parser.add_argument("--prompt", metavar="TEXT",
                        help="the text to continue (default: a new line; with --load-state nothing)")
    parser.add_argument("--load-state", metavar="FILE", help="continue from a saved state")
    parser.add_argument("--save-state", metavar="FILE",
                        help="save the state at the end: a .safetensors file of a few kilobytes")
    parser.add_argument("--max-new-tokens", type=int, default=400, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="X",
                        help="below 1 safer, above 1 more surprising, 0 always the best token (default: %(default)s)")
    parser.add_argument("--top-p", type=float, default=0.9, metavar="X",
                        help="draw among the most probable tokens that make up this probability "
                             "(default: %(default)s)")
    parser.add_argument("--top-k", type=int, default=0, metavar="N", help="and among at most N; 0: no limit")
    parser.add_argument("--presence-penalty", type=float, default=0.0, metavar="X",
                        help="subtracted from the logit of every token that was drawn before (default: %(default)s)")
    parser.add_argument("--frequency-penalty", type=float, default=0.0, metavar="X",
                        help="the same, times how often it was drawn (default: %(default)s)")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT",
                        help="end before this text; may be repeated")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    return parser


def run(options):
    """Print the prompt and its continuation as it is generated."""
    model = load_model(options)
    state, pending = load_state(options.load_state) if options.load_state else (None, None)
    text = options.prompt if options.prompt is not None else "" if options.load_state else "\n"
    prompt = [pending] * (pending is not None) + model.tokenizer.encode(text)
    if not prompt:
        raise UsageError("--prompt is empty; the model needs at least one token to continue from")
    if options.save_state and Path(options.save_state).exists():
        raise UsageError(f"--save-state: {options.save_state} exists; name a new file")
    tokens = generate(model, prompt, options.max_new_tokens, options.temperature, options.top_p, options.top_k,
                      options.presence_penalty, options.frequency_penalty, seed=options.seed, state=state)
    try:
        print(text.lstrip("\n"), end="", flush=True)
        for new_text in stream_text(tokens, model.tokenizer, tuple(options.stop)):
            print(new_text, end="", flush=True)
        print()
    finally:                                            # after Ctrl-C too
        if options.save_state:
            save_state(tokens.state, options.save_state, tokens.last_token)
