"""Prompts: from the command line with escapes, from a file, from standard input, or a default that the model knows."""

import re
import sys
from pathlib import Path

from ..text.reading import decode_text
from .common import UsageError

ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}
HELP = r"\n, \t and \\ stand for a new line, a tab and a backslash"


def unescape(text: str) -> str:
    r"""Replace ``\n``, ``\t`` and ``\\``; any other backslash stands for itself.

    Examples
    --------
    >>> unescape(r"one\ntwo\\n\d")
    'one\ntwo\\n\\d'
    """
    return re.sub(r"\\([nt\\])", lambda match: ESCAPES[match[1]], text)


def given_prompts(prompts: list[str], prompt_file: str | None) -> list[str]:
    r"""Return the prompts that were given: texts with escapes, or a file; ``-`` stands for standard input.

    Parameters
    ----------
    prompts : list of str
    prompt_file : str or None
        One new line at its end, which editors put there, is dropped; likewise of standard input.

    Examples
    --------
    >>> given_prompts([r"a\tb", "c"], None)
    ['a\tb', 'c']
    """
    if prompt_file is not None:
        return [read_prompt_file(prompt_file)]
    if prompts.count("-") > 1:
        raise UsageError("--prompt - reads standard input, which can be read only once")
    return [read_prompt_file("-") if prompt == "-" else unescape(prompt) for prompt in prompts]


def read_prompt_file(path: str) -> str:
    """Return the text of a file, or of standard input for ``-``, without one new line at its end.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "prompt.txt"
    >>> _ = path.write_text("Once upon a time\\n")
    >>> read_prompt_file(path)
    'Once upon a time'
    """
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        text = decode_text(data)
    except ValueError as error:
        raise UsageError(f"{'standard input' if path == '-' else path}: {error}") from None
    return text.removesuffix("\n")


def default_prompt(tokenizer) -> str:
    """Return a new line, or a blank, or else the first text of the vocabulary: something that the model knows.

    Examples
    --------
    >>> from rwkv_np.text.tokenizer import Bytes, Characters
    >>> default_prompt(Bytes()), default_prompt(Characters("abc"))
    ('\\n', 'a')
    """
    for text in ("\n", " "):
        try:
            if tokenizer.decode(tokenizer.encode(text)) == text:
                return text
        except ValueError:                              # a vocabulary of characters without this one
            pass
    known = tokenizer.spells(tokenizer.vocab_size).nonzero()[0]
    return tokenizer.decode(known[:1])
