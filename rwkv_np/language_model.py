"""The language model, once for all generations: embedding -> blocks -> head.

    x = LN(emb[token])
    for each block:     x = x + time_mixing(LN(x));   x = x + channel_mixing(LN(x))
    logits = LN(x) @ head.T

Time mixing mixes across tokens, channel mixing across channels; LN is a layer norm. A generation of RWKV is a
class derived from `LanguageModel` that supplies these two, each over a sequence with its pullback (*parallel*) and
for one token (*recurrent*), and says which arrays a layer has. `rwkv4` is the simplest; read it first.

Both forms read the same `params`, a flat dict under the names of the official checkpoints, weights in their
orientation (out, in). L layers, D channels, F width of channel mixing, V vocabulary.
"""

import copy

import numpy as np

from . import ops
from .activations import identity
from .checks import check_dropout, check_inputs, check_params, check_tokens, check_weights
from .params import VARIANTS, count_layers, initial_params, layer_names, rename_gradients

SEGMENT = 1024      # tokens that `forward` reads at a time: the arrays of longer segments fall out of the cache


class LanguageModel:
    """A language model of any generation: `params`, and what can be computed with them.

    Parameters
    ----------
    params : dict of str to ndarray
        Under the official names, all float32 or all float64; vectors as (n,). Kept, not copied: an array that you
        put into it is used from the next call on.

    Attributes
    ----------
    tokenizer
        Turns text into this model's tokens; None where it is not known.
    metadata : dict
        How the model was made.

    Raises
    ------
    ValueError, TypeError
        If an array is missing, unknown, or of the wrong shape or dtype; the message names it.
    """

    # What a generation supplies. In RWKV-4, for example: LAYER["att.key.weight"] is "AD", axis_sizes(...)["A"] 128.
    generation = None                   # 4, 5, 6 or 7
    LAYER = None                        # {name: axes} of one layer's arrays, without "blocks.N."; an axis is a letter
    State = None                        # NamedTuple (att_shift, ffn_shift, *memory), each array stacked over layers
    time_mixing = time_mixing_step = channel_mixing = channel_mixing_step = None
    axis_sizes = None                   # (vocab_size, d_model, **options) -> {letter: size}
    initial_value = None                # (name, shape, layer, n_layer, sizes, rng) -> what training starts from
    memory_shape = None                 # shape of each memory array of one layer and one sequence
    constants = {}                      # keyword arguments of time mixing that are not arrays
    FILE_VECTORS = r"\.time_mix_"       # pattern of the names of vectors that official files store as (1, 1, n)
    VARIANTS = VARIANTS                 # {pattern of a name: what an array of this name belongs to}; unsupported

    classes = {}                        # {generation: class}

    def __init_subclass__(cls):
        if "generation" in vars(cls):
            LanguageModel.classes[cls.generation] = cls

    def __init__(self, params):
        check_params(params, type(self))
        self.params = params
        self.tokenizer, self.metadata = None, {}

    @classmethod
    def init(cls, vocab_size, d_model, n_layer, seed=0, head_size=None, d_ffn=None, dtype=np.float32):
        """Return a new model with the official initialisation of its generation.

        Parameters
        ----------
        vocab_size, d_model, n_layer : int
        seed : int or np.random.Generator
        head_size : int, optional
            Of generations 5 to 7; divides d_model. By default 64, or d_model where that is smaller.
        d_ffn : int, optional
            Width of channel mixing. By default the generation's usual multiple of d_model.
        dtype : float32 or float64

        Raises
        ------
        ValueError
            For a size that is not a positive integer, or heads that do not divide d_model.
        """
        options = {name: size for name, size in (("head_size", head_size), ("d_ffn", d_ffn)) if size is not None}
        return cls(initial_params(cls, vocab_size, d_model, n_layer, np.random.default_rng(seed), dtype, **options))

    @classmethod
    def shapes(cls, vocab_size, d_model, n_layer, **options):
        """Return {name: shape} of all arrays, in the official order; options: d_ffn, head_size."""
        sizes = cls.axis_sizes(vocab_size, d_model, **options)
        return {name: tuple(sizes[axis] for axis in axes) for name, axes in cls.axes(n_layer).items()}

    @classmethod
    def axes(cls, n_layer, params=None):
        """Return {name: axes} of all arrays, a letter for each axis; `axis_sizes` has the letters."""
        layer_axes = cls.layer_axes(params).items()
        return {"emb.weight": "VD", "blocks.0.ln0.weight": "D", "blocks.0.ln0.bias": "D",
                **{f"blocks.{layer}.{name}": axes for layer in range(n_layer) for name, axes in layer_axes},
                "ln_out.weight": "D", "ln_out.bias": "D", "head.weight": "VD"}

    @classmethod
    def layer_axes(cls, params=None):
        """Return {name: axes} of one layer's arrays; `params` tell sub-versions of a generation apart."""
        return cls.LAYER

    vocab_size = property(lambda self: self.params["emb.weight"].shape[0])
    d_model = property(lambda self: self.params["emb.weight"].shape[1])
    n_layer = property(lambda self: count_layers(self.params))
    d_att = property(lambda self: self.params["blocks.0.att.key.weight"].shape[0])
    d_ffn = property(lambda self: self.params["blocks.0.ffn.key.weight"].shape[0])
    dtype = property(lambda self: self.params["emb.weight"].dtype)
    layer_arrays = property(lambda self: tuple(self.layer_axes(self.params)))       # names without "blocks.N."

    def astype(self, dtype):
        """Return a copy of the model in another dtype."""
        return self.with_params({name: array.astype(dtype) for name, array in self.params.items()})

    def with_params(self, params):
        """Return a model with other arrays, and otherwise like this one."""
        check_params(params, type(self))
        model = copy.copy(self)
        model.params, model.metadata = params, dict(self.metadata)
        return model

    def initial_state(self, batch=()):
        """Return the state before the first token; `batch` is the shape of the batch axes."""
        shape = (self.n_layer, *batch)
        shift = np.zeros((*shape, self.d_model), self.dtype)
        memory = (np.zeros((*shape, *self.memory_shape)) for _ in self.State._fields[2:])
        return self.State(shift, shift.copy(), *memory)

    def forward(self, tokens, state=None, *, last_only=False):
        """Read many tokens in parallel.

        Parameters
        ----------
        tokens : int array (T,) or (B, T)
        state : State, optional
            The state after the preceding tokens; None at the start.
        last_only : bool
            Return only the logits of the last position, as for a prompt.

        Returns
        -------
        logits : (T, V) or (B, T, V); with `last_only` (V,) or (B, V)
        state : State
            After the last token.

        Examples
        --------
        >>> from rwkv_np import RWKV4
        >>> logits, state = RWKV4.init(vocab_size=5, d_model=8, n_layer=2).forward([1, 2, 3])
        >>> logits.shape
        (3, 5)
        """
        tokens, state = check_inputs(self, tokens, state)
        if last_only and tokens.shape[-1] == 0:
            raise ValueError("last_only asks for the logits of the last token, but there are no tokens")
        outputs = []
        for t in range(0, max(tokens.shape[-1], 1), SEGMENT):       # at least once, also if there are no tokens
            x, state = self.hidden(tokens[..., t:t + SEGMENT], state)
            outputs = [x[..., -1:, :]] if last_only else [*outputs, x]
        logits, _ = self.head(np.concatenate(outputs, axis=-2))
        return logits[..., 0, :] if last_only else logits, state

    def step(self, token, state=None):
        """Read one token, with constant memory and work.

        Parameters
        ----------
        token : int or (B,) ints
        state : State, optional
            The state after the preceding tokens; None at the start.

        Returns
        -------
        logits : (V,) or (B, V)
        state : State
            After this token.

        Examples
        --------
        >>> from rwkv_np import RWKV4
        >>> logits, state = RWKV4.init(vocab_size=5, d_model=8, n_layer=2).step(3)
        >>> logits.shape, state.num.shape
        ((5,), (2, 8))
        """
        token, state = check_inputs(self, token, state, one_token=True)
        x, _ = self.embed(token)                                            # (..., D)
        stream, states = (x,), []                                           # RWKV-7 adds v_first to the stream
        for layer, layer_state in enumerate(map(self.State, *state)):       # the arrays of `state` are (L, ...)
            *stream, layer_state = self.block_step(*stream, state=layer_state, **self.layer_params(layer))
            states.append(layer_state)
        return self.head(stream[0])[0], self.State(*map(np.array, zip(*states, strict=True)))       # stacked again

    def loss_and_grads(self, inputs, targets, state=None, weights=None, *, dropout=0.0, rng=None):
        """Return the mean cross-entropy of predicting `targets` from `inputs`, and its gradient.

        Parameters
        ----------
        inputs, targets : int arrays (T,) or (B, T)
        state : State, optional
            The state after the preceding tokens; no gradient flows into it.
        weights : (T,) or (B, T), optional
            For a weighted mean, such as 0 where there is padding.
        dropout : float
            Dropout rate on the two branches of each block.
        rng : np.random.Generator
            Required where dropout is above 0.

        Returns
        -------
        loss : float
            In nats per token.
        grads : dict of str to ndarray
            Under the keys of `params`.

        Examples
        --------
        >>> from rwkv_np import RWKV4
        >>> model = RWKV4.init(vocab_size=5, d_model=8, n_layer=2)
        >>> loss, grads = model.loss_and_grads([1, 2, 3], [2, 3, 4])
        >>> grads["head.weight"].shape
        (5, 8)
        """
        inputs, state = check_inputs(self, inputs, state)
        targets = check_tokens("targets", targets, self.vocab_size)
        weights = check_weights(inputs, targets, weights)
        check_dropout(dropout, rng)
        tape = []
        x, _ = self.hidden(inputs, state, tape, drop=lambda y: ops.dropout(y, dropout, rng))
        logits, pull_head = self.head(x)
        loss, pull_loss = ops.softmax_cross_entropy(logits, targets, weights)

        *dstream, grads = pull_head(*pull_loss())
        del x, logits, pull_head, pull_loss             # with a large vocabulary, the largest arrays of all
        while tape:                                     # popping a pullback frees the arrays that it holds
            *dstream, layer_grads = tape.pop()(*dstream)
            grads |= layer_grads
        # RWKV-7's first layer may hold unused arrays; RWKV-5.1's vectors (H,) have gradients (H, 1).
        return loss, {name: grads[name].reshape(array.shape) if name in grads else np.zeros_like(array)
                      for name, array in self.params.items()}

    def embed(self, tokens):
        """Look up tokens (...) and normalise: x (..., D), and ``pullback(dx, *dcarried) -> (grads,)``."""
        emb, ln0 = self.params["emb.weight"], ("blocks.0.ln0.weight", "blocks.0.ln0.bias")
        x, pull_emb = ops.embedding(emb, tokens)
        x, pull_ln = ops.layer_norm(x, *(self.params[name] for name in ln0))

        def pullback(dx, *_):                           # called like a block's; only x comes from the embedding
            dx, *dln0 = pull_ln(dx)
            return ({"emb.weight": pull_emb(dx)[0], **dict(zip(ln0, dln0, strict=True))},)

        return x, pullback

    def hidden(self, tokens, state, tape=None, drop=identity):
        """Run embedding and blocks: tokens (..., T) -> x (..., T, D), state. Append pullbacks to `tape`, if given."""
        x, pullback = self.embed(tokens)                                    # (..., T, D)
        if tape is not None:
            tape.append(pullback)
        if tokens.shape[-1] == 0:
            return x, self.State(*map(np.copy, state))
        stream, states = (x,), []                                           # RWKV-7 adds v_first to the stream
        for layer, layer_state in enumerate(map(self.State, *state)):       # the arrays of `state` are (L, ...)
            (*stream, layer_state), pullback = self.block(
                *stream, state=layer_state, drop=drop, **self.layer_params(layer))
            states.append(layer_state)
            if tape is not None:                        # else the arrays that the pullback keeps are free
                tape.append(rename_gradients(pullback, self.layer_arrays, layer))
        return stream[0], self.State(*map(np.array, zip(*states, strict=True)))         # stacked again

    def block(self, x, *carried, state, drop, ln1, att, ln2, ffn):
        """Apply time mixing, then channel mixing, each to a normalised input and added to the residual stream.

        x: (..., T, D); state: one layer's; ln1, att, ln2, ffn: its arrays; drop: an op. `carried` is what
        time mixing passes up through the layers beside x: v_first in RWKV-7, nothing before.
        Returns (x, *carried, state), and ``pullback(dx, *dcarried) -> dx, *dcarried, grads``, to be called once.
        """
        x1, pull_ln1 = ops.layer_norm(x, **ln1)
        att = att | self.constants
        (y, memory, *carried), pull_att = self.time_mixing(x1, state.att_shift, state[2:], *carried, **att)
        y, pull_drop1 = drop(y)
        x = x + y
        x2, pull_ln2 = ops.layer_norm(x, **ln2)
        y, pull_ffn = self.channel_mixing(x2, state.ffn_shift, **ffn)
        y, pull_drop2 = drop(y)
        x = x + y

        def pullback(dx, *dcarried):
            nonlocal pull_ffn
            dx2, dffn = pull_ffn(*pull_drop2(dx))
            pull_ffn = None                             # frees the arrays of channel mixing, before time mixing's
            dx2, *dln2 = pull_ln2(dx2)
            dx = dx + dx2                               # the residual stream carries dx past the branch
            dx1, *dcarried, datt = pull_att(*pull_drop1(dx), *dcarried)
            dx1, *dln1 = pull_ln1(dx1)
            return dx + dx1, *dcarried, {"ln1": dict(zip(ln1, dln1, strict=True)), "att": datt,
                                         "ln2": dict(zip(ln2, dln2, strict=True)), "ffn": dffn}

        return (x, *carried, self.State(x1[..., -1, :].copy(), x2[..., -1, :].copy(), *memory)), pullback

    def block_step(self, x, *carried, state, ln1, att, ln2, ffn):
        """Apply `block` to one token: x (..., D) -> x, *carried, state. Leading axes may include stacked layers."""
        x1, _ = ops.layer_norm(x, **ln1)
        y, memory, *carried = self.time_mixing_step(x1, state.att_shift, state[2:], *carried, **(att | self.constants))
        x = x + y
        x2, _ = ops.layer_norm(x, **ln2)
        x = x + self.channel_mixing_step(x2, state.ffn_shift, **ffn)
        return x, *carried, self.State(x1, x2, *memory)

    def head(self, x):
        """Normalise x (..., D) and project it to logits (..., V), and ``pullback(dlogits) -> dx, grads``."""
        ln_out = ("ln_out.weight", "ln_out.bias")
        x, pull_ln = ops.layer_norm(x, *(self.params[name] for name in ln_out))
        logits, pull_head = ops.linear(x, self.params["head.weight"])

        def pullback(dlogits):
            dx, dhead = pull_head(dlogits)
            dx, *dln_out = pull_ln(dx)
            return dx, {"head.weight": dhead, **dict(zip(ln_out, dln_out, strict=True))}

        return logits, pullback

    def layer_params(self, layer):
        """Return the arrays of one layer by group and keyword: ``{"ln1": {"weight": ...}, "att": {"key": ...}}``."""
        params = {"ln1": {}, "att": {}, "ln2": {}, "ffn": {}}
        for name, group, keyword in layer_names(self.layer_arrays, layer):
            if name in self.params:                     # RWKV-7's first layer lacks some
                params[group][keyword] = self.params[name]
        return params


def model_class(params):
    """Return the class of the generation whose arrays `params` hold.

    Examples
    --------
    >>> model_class({"blocks.0.att.r_k": np.ones((2, 4))}).__name__
    'RWKV7'
    """
    marks = {"att.r_k": 7, "att.time_maa_": 6, "att.ln_x.": 5}     # arrays that older generations do not have
    found = (marks[mark] for mark in marks if any(name.startswith("blocks.0." + mark) for name in params))
    return LanguageModel.classes[next(found, 4)]
