"""Check a whole model of any generation against the reference on the same checkpoint."""

from collections.abc import Mapping

import numpy as np

from ..language_model import LanguageModel, model_class
from .model_check import ModelCheck
from .precision import dtype_name
from .report import Report


def check_model(model, path=None, tokens=None, dtype: str = "float32", supports_state: bool = True,
                supports_batch: bool | None = None, max_length: int = 2048, slow: bool = False, strict: bool = False,
                raise_on_failure: bool = True) -> Report:
    """Check a whole model against the reference on the same checkpoint, in float64.

    Parameters
    ----------
    model : object
        With any of these methods:

        - ``forward(tokens, state=None) -> logits, state`` or logits alone; tokens (T,), logits (T, V), and, if it
          supports batches, (B, T) -> (B, T, V)
        - ``step(token, state) -> logits, state``; logits (V,); the state is None at first
        - ``loss_and_grads(inputs, targets) -> loss, grads``; grads is a dict under the official names

        States are the model's own. They are judged as well if they have the names of `model.State`, as attributes or
        keys, or are the official package's list of 5 (RWKV-4) or 3 arrays per layer.
    path : path, model or dict, optional
        The checkpoint that the model was made from, or its arrays under the official names, or a model of this package
        with these arrays; by default the checkpoint of the included model.
    tokens : (T,) ints, optional
        Random ones by default.
    dtype : {"float16", "bfloat16", "float32", "float64"}
        What the model computes in.
    supports_state : bool
        False for a model whose `forward` takes no state.
    supports_batch : bool, optional
        Whether `forward` takes a batch; by default it is tried, and the report says if it is not supported.
    max_length : int
        The number of tokens of the default sequence is at most this (and 40).
    slow : bool
        Whether to add a sequence of 1000 tokens.
    strict, raise_on_failure : bool
        As in `check_wkv4`.

    Returns
    -------
    Report
        Errors of logits are relative to max|logit|, of a gradient to the largest of its array.

    Raises
    ------
    AssertionError
        With the report, if it is not true.
    TypeError
        If the model has none of the three methods.

    Examples
    --------
    >>> import rwkv_np
    >>> bool(check_model(rwkv_np.load(), max_length=8))
    True
    """
    from .. import load  # here, as a kernel's check needs no file formats

    if not any(hasattr(model, name) for name in ("forward", "step", "loss_and_grads")):
        raise TypeError("model has none of forward, step, loss_and_grads")
    if isinstance(path, Mapping):
        path = model_class(path)(path)
    reference = (path if isinstance(path, LanguageModel) else load(path)).astype(np.float64)
    rng = np.random.default_rng(0)
    tokens = rng.integers(reference.vocab_size, size=max(min(40, max_length), 1)) if tokens is None \
        else np.asarray(tokens)
    check = ModelCheck(model, reference, tokens, dtype_name(dtype))
    if hasattr(model, "forward"):
        check.forward()
        if slow:
            check.forward(rng.integers(reference.vocab_size, size=1000), "forward, 1000 tokens")
        states = supports_state and check.segments()
        if not supports_state:
            check.not_judged.append("cuts and states, as supports_state is False")
        if supports_batch is not False:
            check.batch(supports_batch, states)
    if hasattr(model, "step"):
        check.steps()
    if hasattr(model, "loss_and_grads"):
        check.loss()
    check.not_judged += [f"{name}, which the model does not have" for name in ("forward", "step", "loss_and_grads")
                         if not hasattr(model, name)]
    title = f"RWKV-{check.generation} model in {dtype_name(dtype)}"
    report = Report(title, check.results, check.tolerance, strict, check.not_judged)
    if raise_on_failure:
        report.raise_on_failure()
    return report
