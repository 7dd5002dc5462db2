"""Stopping in an orderly way when a signal asks for it."""

import contextlib
import signal
import threading

# Ctrl-C; the request to end, as from `kill` or a shutdown; the end of the terminal. Windows lacks the last.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def block_stop_signals():
    """Hold the signals back for the duration; a process that is started meanwhile never receives them.

    Where the system allows it: not on Windows.

    Examples
    --------
    >>> received = []
    >>> with handle_stop_signals(received.append):
    ...     with block_stop_signals():
    ...         signal.raise_signal(signal.SIGTERM)
    ...         before = len(received)
    >>> before, len(received)
    (0, 1)
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def handle_stop_signals(handler):
    """Call ``handler(number)`` for each signal that asks the process to stop; restore the former handlers at the end.

    Only in the main thread, where Python allows it; elsewhere nothing happens. A SIGHUP that the process was started
    to ignore, as by ``nohup``, stays ignored.

    Parameters
    ----------
    handler : callable

    Examples
    --------
    >>> received = []
    >>> with handle_stop_signals(received.append):
    ...     signal.raise_signal(signal.SIGTERM)
    >>> received == [signal.SIGTERM]
    True
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    try:
        for number in STOP_SIGNALS:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, lambda number, _: handler(number))
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
