"""Conformance tests: check your kernel, or your whole model, against the reference; in the spirit of `numpy.testing`.

    from rwkv_np.testing import check_wkv4
    check_wkv4(my_wkv)              # my_wkv(w, u, k, v, state) -> out, state

Inputs are NumPy arrays; what comes back may be anything array-like: NumPy, PyTorch, JAX. There are three verdicts:

    ok          the error is within a few roundings of the dtype
    imprecise   right, but in lower precision; listed, and no failure unless ``strict=True``
    wrong       a different function, or not a number; with the likeliest cause

Read `engine` for how a check runs, `wkv4` for what it runs on, `judge` for how a verdict is reached; `matrix`, `wkv6`
and `wkv7` for the cases of the later generations, and `model` for whole models.
"""

from .engine import check_backward, check_forward
from .model import check_model
from .report import Report, Result
from .wkv4 import OPERATOR as WKV4
from .wkv6 import OPERATOR as WKV6
from .wkv7 import OPERATOR as WKV7

__all__ = ["Report", "Result", "check_model", "check_wkv4", "check_wkv4_backward", "check_wkv6", "check_wkv6_backward",
           "check_wkv7", "check_wkv7_backward"]


def check_wkv4(kernel, dtype: str = "float32", supports_state: bool = True, max_length: int = 2048, slow: bool = False,
               strict: bool = False, raise_on_failure: bool = True, exchange_states: bool = False) -> Report:
    """Check a WKV-4 kernel against `wkv4.recurrent` in float64.

    Parameters
    ----------
    kernel : callable
        ``kernel(w, u, k, v, state) -> out, state`` with w, u: (C,), where w is the decay rate, and k, v: (..., T, C),
        all in `dtype`. The state is None at first; the states that the kernel gets later are its own. It must not
        write to what it is given, and a later call must not change what it has returned.
    dtype : {"float16", "bfloat16", "float32", "float64"}
        bfloat16 arrays are those of `ml_dtypes`.
    supports_state : bool
        False for a kernel that cannot continue a sequence; it may then return `out` alone.
    max_length : int
        Longer cases are skipped, and the report says how many.
    slow : bool
        Whether to add a case of 2^17 tokens, whatever `max_length` is.
    strict : bool
        Whether imprecise counts as a failure.
    raise_on_failure : bool
        False to get the report in any case.
    exchange_states : bool
        True for a kernel whose state is laid out as the reference's: num, den, log_scale. States are then compared,
        and handed over between the kernel and the reference in both directions.

    Returns
    -------
    Report
        True if something was judged and nothing was wrong (with `strict`: nor imprecise). Errors are relative to max|v|
        of the channel.

    Raises
    ------
    AssertionError
        With the report, if it is not true.
    ValueError
        If `dtype` is none of the four.

    Examples
    --------
    >>> from rwkv_np import wkv4
    >>> bool(check_wkv4(wkv4.recurrent, max_length=64, strict=True))
    True
    >>> report = check_wkv4(lambda w, u, k, v, state: wkv4.recurrent(w, 0 * u, k, v, state), max_length=64,
    ...                     raise_on_failure=False)
    >>> report.causes()[0][1][:22]
    'the bonus u is missing'
    """
    return check_forward(WKV4, kernel, dtype, supports_state, max_length, slow, strict, raise_on_failure,
                         exchange_states)


def check_wkv4_backward(kernel, dtype: str = "float32", supports_state: bool = True, max_length: int = 2048,
                        slow: bool = False, strict: bool = False, raise_on_failure: bool = True) -> Report:
    """Check the gradients of a WKV-4 kernel against `wkv4.backward` in float64.

    Parameters
    ----------
    kernel : callable
        ``kernel(w, u, k, v, dout, state, dstate) -> dw, du, dk, dv, dstate``. The given `state` is None or the initial
        state (num, den, log_scale), the given `dstate` None or the gradient of the final state: of num and den at fixed
        log_scale. The returned `dstate` is that of the initial state, (dnum, dden) or (dnum, dden, dlog_scale); where
        there was no initial state it may be None.
    supports_state : bool
        False for a kernel that knows no states: ``kernel(w, u, k, v, dout) -> dw, du, dk, dv``.
    dtype, max_length, slow, strict, raise_on_failure
        As in `check_wkv4`.

    Returns
    -------
    Report
        As in `check_wkv4`. Errors are relative to the largest |gradient| of the array.

    Raises
    ------
    AssertionError, ValueError
        As in `check_wkv4`.

    Examples
    --------
    >>> from rwkv_np import wkv4
    >>> bool(check_wkv4_backward(wkv4.backward, max_length=64, strict=True))
    True
    """
    return check_backward(WKV4, kernel, dtype, supports_state, max_length, slow, strict, raise_on_failure)


def check_wkv6(kernel, dtype: str = "float32", supports_state: bool = True, max_length: int = 2048, slow: bool = False,
               strict: bool = False, raise_on_failure: bool = True, exchange_states: bool = False) -> Report:
    """Check a WKV-6 kernel against `wkv6.recurrent` in float64.

    Parameters
    ----------
    kernel : callable
        ``kernel(r, lam, u, k, v, state) -> out, state`` with r, lam, k: (..., T, H, N), v: (..., T, H, M)
        and u: (H, N), all in `dtype`. lam is the log
        decay, -1e-6 to -50; RWKV-5's is constant in time. The state is None at first; the
        states that the kernel gets later are its own.
    dtype, supports_state, max_length, slow, strict, raise_on_failure
        As in `check_wkv4`.
    exchange_states : bool
        True for a kernel whose state is laid out as the reference's, (..., H, N, M), S[key, value]. States
        are then compared, and handed over between the kernel and the reference in both directions.

    Returns
    -------
    Report
        As in `check_wkv4`. Errors are relative to max|out| of the sequence and head.

    Raises
    ------
    AssertionError, ValueError
        As in `check_wkv4`.

    Examples
    --------
    >>> from rwkv_np import wkv6
    >>> bool(check_wkv6(wkv6.recurrent, max_length=64, strict=True, exchange_states=True))
    True
    >>> report = check_wkv6(lambda r, *rest: wkv6.recurrent(r / 8, *rest), max_length=16, raise_on_failure=False)
    >>> bool(report)
    False
    """
    return check_forward(WKV6, kernel, dtype, supports_state, max_length, slow, strict, raise_on_failure,
                         exchange_states)


def check_wkv6_backward(kernel, dtype: str = "float32", supports_state: bool = True, max_length: int = 2048,
                        slow: bool = False, strict: bool = False, raise_on_failure: bool = True) -> Report:
    """Check the gradients of a WKV-6 kernel against `wkv6.backward` in float64.

    Parameters
    ----------
    kernel : callable
        ``kernel(r, lam, u, k, v, dout, state, dstate) -> dr, dlam, du, dk, dv, dstate``. The given `state` is
        None or the initial state, (..., H, N, M), S[key, value]; the given `dstate` None or the gradient of the
        final state. The returned `dstate` is that of the initial state; where there was none it may be None.
        With ``supports_state=False``: ``kernel(r, lam, u, k, v, dout) ->`` the gradients of the arguments.
    dtype, supports_state, max_length, slow, strict, raise_on_failure
        As in `check_wkv4`.

    Returns
    -------
    Report
        As in `check_wkv4`. Errors are relative to the largest |gradient| of the channel, over batch and time.

    Raises
    ------
    AssertionError, ValueError
        As in `check_wkv4`.

    Examples
    --------
    >>> from rwkv_np import wkv6
    >>> bool(check_wkv6_backward(wkv6.backward, max_length=64, strict=True))
    True
    """
    return check_backward(WKV6, kernel, dtype, supports_state, max_length, slow, strict, raise_on_failure)


def check_wkv7(kernel, dtype: str = "float32", supports_state: bool = True, max_length: int = 2048, slow: bool = False,
               strict: bool = False, raise_on_failure: bool = True, exchange_states: bool = False) -> Report:
    """Check a WKV-7 kernel against `wkv7.recurrent` in float64.

    Parameters
    ----------
    kernel : callable
        ``kernel(r, lam, k, v, a, b, state) -> out, state`` with r, lam, k, a, b: (..., T, H, N) and
        v: (..., T, H, M), all in `dtype`. The inputs are such as the model
        makes: |a| = 1, b = -alpha a with alpha in (0, 1), lam in (-0.6065, 0). The state is None at first; the
        states that the kernel gets later are its own.
    dtype, supports_state, max_length, slow, strict, raise_on_failure
        As in `check_wkv4`.
    exchange_states : bool
        True for a kernel whose state is laid out as the reference's, (..., H, M, N), S[value, key]. States
        are then compared, and handed over between the kernel and the reference in both directions.

    Returns
    -------
    Report
        As in `check_wkv4`. Errors are relative to max|out| of the sequence and head.

    Raises
    ------
    AssertionError, ValueError
        As in `check_wkv4`.

    Examples
    --------
    >>> from rwkv_np import wkv7
    >>> bool(check_wkv7(wkv7.recurrent, max_length=64, strict=True, exchange_states=True))
    True
    >>> report = check_wkv7(lambda r, lam, k, v, a, b, state: wkv7.recurrent(r, lam, k, v, a, -a, state), max_length=16,
    ...                     raise_on_failure=False)
    >>> report.causes()[0][1]
    'alpha is left out: b = alpha kappa'
    """
    return check_forward(WKV7, kernel, dtype, supports_state, max_length, slow, strict, raise_on_failure,
                         exchange_states)


def check_wkv7_backward(kernel, dtype: str = "float32", supports_state: bool = True, max_length: int = 2048,
                        slow: bool = False, strict: bool = False, raise_on_failure: bool = True) -> Report:
    """Check the gradients of a WKV-7 kernel against `wkv7.backward` in float64.

    Parameters
    ----------
    kernel : callable
        ``kernel(r, lam, k, v, a, b, dout, state, dstate) -> dr, dlam, dk, dv, da, db, dstate``. The given `state` is
        None or the initial state, (..., H, M, N), S[value, key]; the given `dstate` None or the gradient of the
        final state. The returned `dstate` is that of the initial state; where there was none it may be None.
        With ``supports_state=False``: ``kernel(r, lam, k, v, a, b, dout) ->`` the gradients of the arguments.
    dtype, supports_state, max_length, slow, strict, raise_on_failure
        As in `check_wkv4`.

    Returns
    -------
    Report
        As in `check_wkv4`. Errors are relative to the largest |gradient| of the channel, over batch and time.

    Raises
    ------
    AssertionError, ValueError
        As in `check_wkv4`.

    Examples
    --------
    >>> from rwkv_np import wkv7
    >>> bool(check_wkv7_backward(wkv7.backward, max_length=64, strict=True))
    True
    """
    return check_backward(WKV7, kernel, dtype, supports_state, max_length, slow, strict, raise_on_failure)
