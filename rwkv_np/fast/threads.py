"""Run a function over slices on several cores: NumPy lets other threads run while it is inside its loops."""

import contextvars
import os
from concurrent.futures import ThreadPoolExecutor

LIMITS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def available_threads():
    """Return how many threads may compute: one per core of this process, or as many as the BLAS is limited to.

    Training by worker processes limits each worker's BLAS to one thread, and so this too.

    Examples
    --------
    >>> available_threads() >= 1
    True
    """
    limits = [int(os.environ[name]) for name in LIMITS if os.environ.get(name, "").isdigit()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *limits]))


def in_threads(count, function, items):
    """Call function(item) for each item, on `count` threads; return the results in order.

    Examples
    --------
    >>> in_threads(2, abs, [-1, 2])
    [1, 2]
    """
    if min(count, len(items)) < 2:
        return [function(item) for item in items]
    contexts = [contextvars.copy_context() for _ in items]              # np.errstate holds in the threads too
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda context, item: context.run(function, item), contexts, items))
