"""From tokens to text, as they come."""

import codecs


def stream_text(tokens, tokenizer, stop=()):
    """Decode tokens as they come, in whole characters, until a stop string.

    A token may end in the middle of a character; its bytes are then held back until the rest arrives (bytes that
    cannot become a character turn into U+FFFD). Text that may be the beginning of a stop string is held back too,
    until it is known whether it is.

    Parameters
    ----------
    tokens : iterable of int
        Such as a `Generation`. Once a stop string ends the text, no further token is requested.
    tokenizer
        With ``decode_bytes``.
    stop : str or iterable of str
        The text ends before the first of these to be complete; if several end at the same character, before the
        longest.

    Returns
    -------
    iterator of str
        None of them empty.

    Raises
    ------
    ValueError
        If a stop string is empty.

    Examples
    --------
    >>> from rwkv_np.text.tokenizer import Bytes
    >>> list(stream_text("Grüße. Bis bald".encode(), Bytes(), stop=[". "]))
    ['G', 'r', 'ü', 'ß', 'e']
    """
    stop = [stop] if isinstance(stop, str) else list(stop)
    if "" in stop:
        raise ValueError("stop holds an empty string; every text would end before it began")
    return _before_stop(_whole_characters(tokens, tokenizer), stop)


def _whole_characters(tokens, tokenizer):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        yield decoder.decode(tokenizer.decode_bytes([token]))
    yield decoder.decode(b"", final=True)


def _before_stop(texts, stop):
    held = ""
    for text in texts:
        held += text
        found = [(held.index(word) + len(word), held.index(word)) for word in stop if word in held]
        if found:
            _, start = min(found)                       # first to end; of these, first to begin
            if start:
                yield held[:start]
            return
        # The longest end of the text that may be the beginning of a stop string.
        keep = max((n for word in stop for n in range(1, len(word)) if held.endswith(word[:n])), default=0)
        ready, held = held[:len(held) - keep], held[len(held) - keep:]
        if ready:
            yield ready
    if held:
        yield held
