"""``generate``: let a model continue a text."""

import contextlib

from .. import load_state, save_state
from ..sampling import blanks_and_digits, end_of_text_tokens, generate, generate_batch, stream_text
from . import prompts
from .common import UsageError, add_model_options, load_model
from .output import reserve


def add(commands):
    """Add the command to the command line; return its parser."""
    parser = commands.add_parser("generate", help="let a model continue a text",
                                 description="Print the prompt and its continuation, until the model ends the text or "
                                             "--max-new-tokens are reached.")
    add_model_options(parser)
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", action="append", metavar="TEXT",
                        help=f"the text to continue; {prompts.HELP}; - reads standard input; repeated: several texts, "
                             "continued together (default: a new line; with --load-state nothing)")
    prompt.add_argument("--prompt-file", metavar="FILE",
                        help="the text to continue is in this file, without escapes; - reads standard input")
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
    parser.add_argument("--penalty-decay", type=float, default=1.0, metavar="X",
                        help="factor by which these counts fade with each token; the official code has 0.996 "
                             "(default: %(default)s)")
    parser.add_argument("--exempt-digits", action="store_true",
                        help="no penalty for blanks, tabs and digits, which numbers and indentation repeat rightly")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT",
                        help=f"end before this text; {prompts.HELP}; may be repeated")
    parser.add_argument("--ignore-eos", action="store_true",
                        help="do not end at the model's end-of-text token: it is never drawn")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="of the random numbers; the second of several texts has N + 1, and so on "
                             "(default: %(default)s)")
    return parser


def run(options):
    """Print each prompt and its continuation as it is generated."""
    if options.save_state is not None and len(options.prompt or ()) > 1:
        raise UsageError("--save-state saves the state of one text, but --prompt is repeated")
    with reserve("--save-state", options.save_state) if options.save_state is not None else contextlib.nullcontext():
        model = load_model(options)
        state, pending = (None, None) if options.load_state is None else load_state(options.load_state)
        texts = prompts.given_prompts(options.prompt or [], options.prompt_file)
        echoes = texts or [""]                          # what was given is printed, a default is not
        if not texts:
            texts = [prompts.default_prompt(model.tokenizer) if options.load_state is None else ""]
        sequences = [[pending] * (pending is not None) + model.tokenizer.encode(text) for text in texts]
        if not all(sequences):
            raise UsageError("the prompt is empty; the model needs at least one token to continue from")
        if len(sequences) > 1:
            write_several(model, echoes, sequences, options, state)
        else:
            write_one(model, echoes[0], sequences[0], options, state)


def write_one(model, prompt, tokens, options, state):
    """Print a prompt and its continuation, token by token; save the state at the end, after Ctrl-C too."""
    generation = generate(model, tokens, options.max_new_tokens, state=state, **settings(model, options))
    try:
        print(prompt, end="", flush=True)
        for text in stream_text(generation, model.tokenizer, stop_strings(options)):
            print(text, end="", flush=True)
        print()
    finally:
        if options.save_state is not None:
            save_state(generation.state, options.save_state, generation.last_token)


def write_several(model, texts, sequences, options, state):
    """Continue several prompts together, and print one after the other."""
    continuations = generate_batch(model, sequences, options.max_new_tokens, state=state, **settings(model, options))
    for n, (prompt, tokens) in enumerate(zip(texts, continuations, strict=True)):
        continuation = "".join(stream_text(tokens, model.tokenizer, stop_strings(options)))
        print("-" * 60 + "\n" if n else "", prompt, continuation, sep="")


def settings(model, options):
    """Return the arguments of `generate` and `generate_batch` that the options say."""
    ends = end_of_text_tokens(model)
    result = {
        "temperature": options.temperature, "top_p": options.top_p, "top_k": options.top_k,
        "presence_penalty": options.presence_penalty, "frequency_penalty": options.frequency_penalty,
        "penalty_decay": options.penalty_decay, "stop_tokens": ends, "seed": options.seed,
        "exempt_tokens": blanks_and_digits(model.tokenizer) if options.exempt_digits else ()}
    if options.ignore_eos:
        allowed = model.tokenizer.spells(model.vocab_size)
        allowed[[token for token in ends if token < model.vocab_size]] = False
        result |= {"stop_tokens": (), "allowed": allowed}
    return result


def stop_strings(options):
    """Return the texts before which generation ends."""
    return tuple(prompts.unescape(text) for text in options.stop)
