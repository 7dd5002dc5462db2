"""From logits to tokens to streamed text.

A language model returns logits: how likely each token is to come next. To generate text, draw a token, let the model
read it, and repeat. The state is all that is carried from one token to the next, so memory and time per token stay
the same however long the text becomes. Any model will do that has ``vocab_size``, and `forward` (with ``last_only``,
and for no tokens too) and `step` as `LanguageModel` has them.

In reading order: `distribution` turns logits into probabilities, `sampler` draws tokens with penalties against
repetition, `generation` continues a prompt, `batch` several prompts together, `streaming` turns tokens into text,
`scoring` says how likely a given continuation is.

The functions follow the official sampler, `sample_logits` and `generate` in the package `rwkv`
(https://github.com/BlinkDL/ChatRWKV/blob/965e40b/rwkv_pip_package/src/rwkv/utils.py). As in that sampler,
top_p and top_k apply to the probabilities *before* the temperature; many others apply the temperature first,
so that it shifts the threshold of top_p. The differences from the official sampler:

- Among equal probabilities the smaller ids are kept; top_p of the official sampler keeps all that tie.
- Temperature 0 takes the smallest of the best ids; the official sampler draws among them.
- Penalties do not decay unless ``penalty_decay`` is set; in the official sampler they always decay, by a
  factor of 0.996 per token.
- Exempt tokens have no penalty at all; the official sampler exempts digits and blanks from the frequency penalty, but
  not from the presence penalty.
- A token that stands for no text is never drawn, unless ``allowed`` includes it.
"""

from .batch import generate_batch
from .distribution import probabilities, sample
from .generation import Generation, generate
from .sampler import Sampler, blanks_and_digits, end_of_text_tokens
from .scoring import log_probabilities, score
from .streaming import stream_text

__all__ = ["Generation", "Sampler", "blanks_and_digits", "end_of_text_tokens", "generate", "generate_batch",
           "log_probabilities", "probabilities", "sample", "score", "stream_text"]
