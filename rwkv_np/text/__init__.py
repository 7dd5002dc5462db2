"""Text to token ids and back, and texts to train on.

Read in this order: `base` (the interface of a tokenizer), `plain` (bytes, characters), `bpe`, `world`, `tokenizer`
(reading any tokenizer file), `corpora` (texts to train on).
"""
