"""RWKV-4, the model (arXiv:2305.13048): a stack of blocks, each a time mixing and a channel mixing.

`time_mixing` and `channel_mixing` are the paper's equations, one a line. A model reads its tokens all at
once (`forward`, *parallel*; the community says GPT mode) or one at a time (`step`, *recurrent*; RNN mode).
The same equations stand here in both forms: with a time axis and their gradient (`block`), and as the cell of an
RNN (`cell`).

`params` is a flat dict under the names of the official checkpoints, weights in their orientation
(out, in). L layers, D channels, A attention width (= D in every official model), F = d_ffn, V vocabulary.
"""

from typing import NamedTuple

import numpy as np

from . import ops, rnn, wkv4
from .params import LAYER, check_params, initial_params, layer_names
from .wkv4.recurrent import advance, output

PIECE = 1024        # tokens that `forward` reads at once: of more, less would be in the cache


class State(NamedTuple):
    """All that the model remembers: 5 numbers per layer and channel, whatever the length of the text.

    A value: `forward` and `step` return a new one and leave the given one as it was.
    """

    att_shift: np.ndarray       # (L, ..., D) the last token's normalised input of time mixing, model dtype
    ffn_shift: np.ndarray       # (L, ..., D) the same of channel mixing
    num: np.ndarray             # (L, ..., A) float64, as are the next two: the state of WKV
    den: np.ndarray
    log_scale: np.ndarray


def time_mixing(x, p, last, wkv_state, wkv):
    """What the past has to say, gated by the receptance (paper, equations 11 to 13, 16, 17).

    x: (..., T, D); last: (..., D), the input before x; wkv: the form of the operator.
    Returns (y, wkv_state), pullback.
    """
    w, u = np.exp(p["att.time_decay"]), p["att.time_first"]                     # (A,)
    r, pull_r = ops.mixed_linear(x, last, p["att.time_mix_r"], p["att.receptance.weight"])      # (..., T, A)
    k, pull_k = ops.mixed_linear(x, last, p["att.time_mix_k"], p["att.key.weight"])
    v, pull_v = ops.mixed_linear(x, last, p["att.time_mix_v"], p["att.value.weight"])
    (average, wkv_state), pull_wkv = wkv(w, u, k, v, wkv_state)
    gate, pull_gate = ops.sigmoid(r)
    y, pull_y = ops.linear(gate * average, p["att.output.weight"])              # (..., T, D)

    def pullback(dy):
        dgated, doutput = pull_y(dy)
        (dr,) = pull_gate(dgated * average)
        dwkv = pull_wkv(dgated * gate)
        dx_v, _, dmix_v, dvalue = pull_v(dwkv.v)
        dx_k, _, dmix_k, dkey = pull_k(dwkv.k)
        dx_r, _, dmix_r, dreceptance = pull_r(dr)
        return dx_v + dx_k + dx_r, {
            "att.time_decay": dwkv.w * w, "att.time_first": dwkv.u,             # w = exp(time_decay)
            "att.time_mix_r": dmix_r, "att.time_mix_k": dmix_k, "att.time_mix_v": dmix_v,
            "att.receptance.weight": dreceptance, "att.key.weight": dkey, "att.value.weight": dvalue,
            "att.output.weight": doutput}

    return (y, wkv_state), pullback


def channel_mixing(x, p, last):
    """A feed-forward layer, gated too (paper, equations 14, 15, 18). Returns y, pullback."""
    r, pull_r = ops.mixed_linear(x, last, p["ffn.time_mix_r"], p["ffn.receptance.weight"])      # (..., T, D)
    k, pull_k = ops.mixed_linear(x, last, p["ffn.time_mix_k"], p["ffn.key.weight"])             # (..., T, F)
    h, pull_h = ops.squared_relu(k)
    v, pull_v = ops.linear(h, p["ffn.value.weight"])                            # (..., T, D)
    gate, pull_gate = ops.sigmoid(r)

    def pullback(dy):
        dh, dvalue = pull_v(dy * gate)
        dx_k, _, dmix_k, dkey = pull_k(*pull_h(dh))
        dx_r, _, dmix_r, dreceptance = pull_r(*pull_gate(dy * v))
        return dx_k + dx_r, {
            "ffn.time_mix_r": dmix_r, "ffn.time_mix_k": dmix_k, "ffn.receptance.weight": dreceptance,
            "ffn.key.weight": dkey, "ffn.value.weight": dvalue}

    return gate * v, pullback


def block(x, p, state, wkv, drop):
    """Time mixing, then channel mixing, each behind its layer norm and added to the residual stream.

    `state`: one layer's; `drop`: dropout as an op. Returns (x, state), pullback.
    """
    x1, pull_ln1 = ops.layer_norm(x, p["ln1.weight"], p["ln1.bias"])
    (dx1, wkv_state), pull_att = time_mixing(x1, p, state.att_shift, wkv4.State(*state[2:]), wkv)
    dx1, pull_drop1 = drop(dx1)
    x = x + dx1
    x2, pull_ln2 = ops.layer_norm(x, p["ln2.weight"], p["ln2.bias"])
    dx2, pull_ffn = channel_mixing(x2, p, state.ffn_shift)
    dx2, pull_drop2 = drop(dx2)
    x = x + dx2

    def pullback(dx):
        dx2, ffn_grads = pull_ffn(*pull_drop2(dx))
        dx2, dweight2, dbias2 = pull_ln2(dx2)
        dx = dx + dx2                                   # the residual stream carries dx past the branch
        dx1, att_grads = pull_att(*pull_drop1(dx))
        dx1, dweight1, dbias1 = pull_ln1(dx1)
        return dx + dx1, {"ln1.weight": dweight1, "ln1.bias": dbias1, **att_grads,
                          "ln2.weight": dweight2, "ln2.bias": dbias2, **ffn_grads}

    return (x, State(x1[..., -1, :].copy(), x2[..., -1, :].copy(), *wkv_state)), pullback


# The same for one token, as an RNN is written: vectors, no gradient. With a leading axis of layers on everything these
# compute several layers at once (`cascade`).


def time_mixing_step(x, p, last, wkv_state):
    """`time_mixing` of one token: x, last (..., D) -> y, wkv_state."""
    difference = x - last                                               # last + mu difference = mu x + (1 - mu) last
    r = (last + p["att.time_mix_r"] * difference) @ p["att.receptance.weight"].mT
    k = (last + p["att.time_mix_k"] * difference) @ p["att.key.weight"].mT
    v = (last + p["att.time_mix_v"] * difference) @ p["att.value.weight"].mT
    w, u, k = np.exp(p["att.time_decay"]), p["att.time_first"], k.astype(np.float64)     # and so all that follows
    average = output(u, k, v, wkv_state).astype(x.dtype)
    return (ops.sigmoid(r)[0] * average) @ p["att.output.weight"].mT, advance(w, k, v, wkv_state)


def channel_mixing_step(x, p, last):
    """`channel_mixing` of one token: x, last (..., D) -> y."""
    difference = x - last
    r = (last + p["ffn.time_mix_r"] * difference) @ p["ffn.receptance.weight"].mT
    k = (last + p["ffn.time_mix_k"] * difference) @ p["ffn.key.weight"].mT
    h, _ = ops.squared_relu(k)
    return ops.sigmoid(r)[0] * (h @ p["ffn.value.weight"].mT)


def cell(x, p, state):
    """`block` for one token: x (..., D), one layer's state -> x, state."""
    x1, _ = ops.layer_norm(x, p["ln1.weight"], p["ln1.bias"])
    y, wkv_state = time_mixing_step(x1, p, state.att_shift, wkv4.State(*state[2:]))
    x = x + y
    x2, _ = ops.layer_norm(x, p["ln2.weight"], p["ln2.bias"])
    return x + channel_mixing_step(x2, p, state.ffn_shift), State(x1, x2, *wkv_state)


class RWKV4:
    """An RWKV-4 language model: `params`, and what can be done with them.

    Parameters
    ----------
    params : dict of str to ndarray
        Under the official names, float32 or float64 throughout; ``time_mix_*`` as (D,). Kept, not copied: edit
        it and the model has changed.

    Raises
    ------
    ValueError, TypeError
        If an array is missing, unknown, or of the wrong shape or dtype, naming it.
    """

    def __init__(self, params):
        check_params(params)
        self.params = params
        self.tokenizer = None           # what turns text into this model's tokens, if it is known
        self.metadata = {}                 # how the model came about: what it read, for how long

    @classmethod
    def init(cls, vocab_size, d_model, n_layer, d_ffn=None, seed=0, dtype=np.float32):
        """A new model with the official RWKV-4 initialisation; see `initial_params`."""
        return cls(initial_params(vocab_size, d_model, n_layer, d_ffn, seed, dtype))

    vocab_size = property(lambda self: self.params["emb.weight"].shape[0])
    d_model = property(lambda self: self.params["emb.weight"].shape[1])
    n_layer = property(lambda self: len(self.params) // len(LAYER))         # 6 of them belong to no layer
    d_att = property(lambda self: self.params["blocks.0.att.key.weight"].shape[0])
    d_ffn = property(lambda self: self.params["blocks.0.ffn.key.weight"].shape[0])
    dtype = property(lambda self: self.params["emb.weight"].dtype)

    def astype(self, dtype):
        """A copy of the model in another dtype."""
        model = RWKV4({name: array.astype(dtype) for name, array in self.params.items()})
        model.tokenizer, model.metadata = self.tokenizer, dict(self.metadata)
        return model

    def initial_state(self, batch=()):
        """The state before the first token: nothing seen. Arrays of shape ``(L, *batch, D or A)``."""
        shift = np.zeros((self.n_layer, *batch, self.d_model), self.dtype)
        return State(shift, shift.copy(), *wkv4.initial_state((self.n_layer, *batch, self.d_att)))

    def forward(self, tokens, state=None, *, last_only=False):
        """Read many tokens at once: the parallel mode.

        Parameters
        ----------
        tokens : int array (T,) or (B, T)
        state : State, optional
            What came before; None for nothing.
        last_only : bool
            Only the logits of the last position, for reading a prompt.

        Returns
        -------
        logits : (T, V) or (B, T, V); with `last_only` (V,) or (B, V)
        state : State
            After the last token.
        """
        tokens, state = self._checked(tokens, state, axes=("(T,)", "(B, T)"))
        if last_only and tokens.shape[-1] == 0:
            raise ValueError("last_only asks for the logits of the last token, but there are no tokens")
        hidden = []
        for t in range(0, max(tokens.shape[-1], 1), PIECE):     # the state carries all that matters to the next piece
            x, state = self._hidden(tokens[..., t:t + PIECE], state, wkv4.wkv)
            hidden.append(x)
        return self._logits(x[..., -1, :] if last_only else np.concatenate(hidden, axis=-2))[0], state

    def step(self, token, state=None):
        """Read one token: the recurrent mode, constant work and memory per token.

        token: int or (B,) -> logits (V,) or (B, V), and the state after it.
        """
        token, state = self._checked(token, state, axes=("an int", "(B,)"))
        if token.ndim == 0:
            logits, state = rnn.step(self.params, token, state)         # the same for one text, written out
            return logits, State(*state)
        (x, _), states = self._embedded(token), []
        for layer in range(self.n_layer):
            x, layer_state = cell(x, self._layer(layer), State(*(s[layer] for s in state)))
            states.append(layer_state)
        return self._logits(x)[0], _stacked(states)

    def loss_and_grads(self, inputs, targets, state=None, weights=None, *, dropout=0.0, rng=None):
        """Mean cross-entropy of predicting `targets` from `inputs`, and its gradient.

        Parameters
        ----------
        inputs, targets : int arrays (T,) or (B, T)
        state : State, optional
            What came before; no gradient flows into it.
        weights : (T,) or (B, T), optional
            The mean is weighted by these, e.g. 0 where there is padding.
        dropout, rng :
            Rate of dropout on the two branches of each block, and the generator that draws it.

        Returns
        -------
        loss : float
            In nats per token.
        grads : dict of str to ndarray
            Under the keys of `params`.
        """
        inputs, state = self._checked(inputs, state, axes=("(T,)", "(B, T)"))
        targets = self._checked_tokens(targets, "targets", ("(T,)", "(B, T)"))
        if targets.shape != inputs.shape:
            raise ValueError(f"inputs have shape {inputs.shape} but targets {targets.shape}; they must be the same")
        if inputs.size == 0:
            raise ValueError("there are no tokens to predict: inputs are empty")
        if weights is not None:
            weights = np.asarray(weights, np.float64)
            if weights.shape != targets.shape or not weights.sum() > 0:
                raise ValueError(f"weights must have the targets' shape {targets.shape} and a sum above 0, "
                                 f"not shape {weights.shape} and sum {weights.sum()}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout} but must be at least 0 and below 1")
        if dropout and rng is None:
            raise ValueError("dropout needs rng, a np.random.Generator to draw from")
        tape = []
        x, _ = self._hidden(inputs, state, wkv4.wkv, tape, lambda y: ops.dropout(y, dropout, rng))
        logits, pull_logits = self._logits(x)
        loss, pull_loss = ops.softmax_cross_entropy(logits, targets, weights)

        dx, grads = pull_logits(*pull_loss())
        while tape:                                     # popped, so that what a layer kept is let go at once
            dx, layer_grads = tape.pop()(dx)
            grads.update(layer_grads)
        return loss, {name: grads[name] for name in self.params}

    def _hidden(self, tokens, state, wkv, tape=None, drop=lambda y: (y, lambda dy: (dy,))):
        """tokens (..., T) -> x (..., T, D) before `ln_out`, and the new state. Pullbacks go onto `tape`."""
        x, pull = self._embedded(tokens)                                        # (..., T, D)
        if tape is not None:
            tape.append(pull)
        if tokens.shape[-1] == 0:
            return x, state
        states = []
        for layer in range(self.n_layer):
            (x, layer_state), pull = block(x, self._layer(layer), State(*(s[layer] for s in state)), wkv, drop)
            states.append(layer_state)
            if tape is not None:
                tape.append(lambda dx, pull=pull, prefix=f"blocks.{layer}.": _named(prefix, *pull(dx)))
        return x, _stacked(states)

    def _embedded(self, tokens):
        """tokens (...) -> (..., D): a row each, and a layer norm that brings it to scale."""
        x, pull_emb = ops.embedding(self.params["emb.weight"], tokens)
        x, pull_ln = ops.layer_norm(x, self.params["blocks.0.ln0.weight"], self.params["blocks.0.ln0.bias"])

        def pullback(dx):
            dx, dweight, dbias = pull_ln(dx)
            return None, {"emb.weight": pull_emb(dx)[0], "blocks.0.ln0.weight": dweight, "blocks.0.ln0.bias": dbias}

        return x, pullback

    def _layer(self, layer):
        """The arrays of one layer, under their names without `blocks.N.`."""
        return {name: self.params[full_name] for name, full_name in layer_names(layer)}

    def _logits(self, x):
        """(..., D) -> (..., V): layer norm and head."""
        x, pull_ln = ops.layer_norm(x, self.params["ln_out.weight"], self.params["ln_out.bias"])
        logits, pull_head = ops.linear(x, self.params["head.weight"])

        def pullback(dlogits):
            dx, dhead = pull_head(dlogits)
            dx, dweight, dbias = pull_ln(dx)
            return dx, {"ln_out.weight": dweight, "ln_out.bias": dbias, "head.weight": dhead}

        return logits, pullback

    def _checked(self, tokens, state, axes):
        tokens = self._checked_tokens(tokens, "token" if axes[0] == "an int" else "tokens", axes)
        batch = tokens.shape if axes[0] == "an int" else tokens.shape[:-1]
        if state is None:
            return tokens, self.initial_state(batch)
        for name, array in zip(State._fields, state, strict=True):
            width = self.d_model if name.endswith("shift") else self.d_att
            if np.shape(array) != (self.n_layer, *batch, width):
                raise ValueError(f"state.{name} has shape {np.shape(array)} but must be "
                                 f"{(self.n_layer, *batch, width)}: (layers, batch of the tokens, channels)")
        return tokens, State(*(s.astype(self.dtype, copy=False) for s in state[:2]), *state[2:])

    def _checked_tokens(self, tokens, name, axes):
        tokens = np.asarray(tokens)
        if tokens.size == 0 and tokens.ndim == 1:
            tokens = tokens.astype(np.int64)
        if tokens.dtype.kind not in "iu":
            raise TypeError(f"{name} are {tokens.dtype} but must be integers")
        low = 0 if axes[0] == "an int" else 1
        if tokens.ndim not in (low, low + 1):
            raise ValueError(f"{name} have shape {tokens.shape} but must be {axes[0]} or {axes[1]}")
        if tokens.size and not (0 <= tokens.min() and tokens.max() < self.vocab_size):
            outside = (tokens < 0) | (tokens >= self.vocab_size)
            raise ValueError(f"token id {tokens[outside].flat[0]} is outside the vocabulary of {self.vocab_size}")
        return tokens


def _stacked(states):
    """One State from those of the layers, (L, ..., D or A) each."""
    return State(*map(np.stack, zip(*states, strict=True)))


def _named(prefix, dx, grads):
    return dx, {prefix + name: grad for name, grad in grads.items()}
