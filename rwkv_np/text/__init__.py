"""Text to token ids and back, and texts to train on.

In reading order: `base`, the interface of a tokenizer; `plain`, bytes and characters; `library` and `bpe`,
byte-pair encoding; `world`, the longest entry of a vocabulary; `tokenizer`, reading a tokenizer file of any
kind; `reading`, text files of any kind; `encoding`, long texts to arrays of ids; `corpora`, texts to train on.
"""
