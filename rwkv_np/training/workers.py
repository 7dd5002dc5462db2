"""Data parallelism on one machine: worker processes share a training step, some sequences of the batch each.

Elementwise NumPy, and Python itself, use one core. Here each shard of the batch goes to a process of its own whose BLAS
is limited to one thread, so that every core is busy all the time. The gradient of the batch is the weighted mean of the
shards' gradients. Parameters and gradients lie in memory that all processes share; pipes carry tokens and losses only.
"""

import contextlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .signals import block_stop_signals

# The program of a worker. Its search path is the parent's, so that both import the same files.
PROGRAM = ("import sys; sys.path[:] = sys.argv[1:]; from rwkv_np.training import memory, workers; "
           "memory.keep_freed_memory(); workers.serve()")
# A BLAS reads these when it is loaded: hence processes that are started anew, not forked.
ONE_THREAD = {f"{lib}_NUM_THREADS": "1" for lib in ("OPENBLAS", "OMP", "MKL", "BLIS")} | {"VECLIB_MAXIMUM_THREADS": "1"}


def default_count(batch_size):
    """Return the number of workers to use: one per core, at most 4, at most one per sequence of the batch.

    Examples
    --------
    >>> default_count(batch_size=1)
    1
    """
    return min(os.cpu_count() or 1, 4, batch_size)


class WorkerDied(RuntimeError):
    """Say which worker process died, in the first line, and what it wrote last, in the others."""


class Workers(contextlib.AbstractContextManager):
    """Start processes that share a training step, one shard of the batch each.

    Parameters
    ----------
    model : object
        With ``params``, a dict of arrays, and ``loss_and_grads``; its class can be imported, and called with ``params``
        alone; ``metadata``, if there is any, goes with it. Until `close`, ``params`` holds shared arrays of the same
        values: edit or replace them, and the workers see it.
    count : int
        The number of processes. Dropout's random numbers depend on it, and so does rounding.

    Raises
    ------
    ValueError
        If `count` is not an int of at least 1.
    WorkerDied
        If a process cannot make the model.
    OSError
        If there is no room for the shared arrays.

    Examples
    --------
    >>> import rwkv_np
    >>> model = rwkv_np.RWKV4.init(16, 8, 1)
    >>> inputs, targets = np.arange(12).reshape(3, 4), np.arange(1, 13).reshape(3, 4)
    >>> with Workers(model, 2) as workers:
    ...     loss, grads = workers.loss_and_grads(inputs, targets)
    >>> abs(loss - model.loss_and_grads(inputs, targets)[0]) < 1e-6
    True
    """

    def __init__(self, model, count):
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"count is {count!r} but must be an int of at least 1")
        self.model, self._workers, self._params = model, [], {}
        layout, size = _layout(model.params)
        total = (1 + count) * size                                  # the parameters, and a gradient from each worker
        self._folder = tempfile.TemporaryDirectory(
            prefix=f"rwkv_np-{os.getpid()}-", dir=_in_memory(total), ignore_cleanup_errors=True)
        try:
            for number in range(1, 1 + count):
                self._workers.append(_Worker(f"worker {number} of {count}"))
            path = Path(self._folder.name, "arrays")
            _fill_with_zeros(path, total)
            shared, *self._grads = (_arrays(path, layout, n * size) for n in range(1 + count))
            for name, array in model.params.items():
                shared[name][...] = array
            for number, worker in enumerate(self._workers, 1):
                worker.send((type(model), getattr(model, "metadata", None), path, layout, number * size))
            for worker in self._workers:
                worker.receive()
            self._folder.cleanup()                                  # all have it open: nothing is left if we are killed
            self._params = shared
            model.params.update(shared)
        except BaseException:
            self.close()
            raise

    def loss_and_grads(self, inputs, targets, *, dropout=0.0, rng=None):
        """Return the loss and the gradient of a batch, equal to the model's own up to rounding.

        Parameters
        ----------
        inputs, targets : (B, T) int arrays
        dropout, rng
            As in the model's method; `rng` draws a seed for each shard.

        Returns
        -------
        loss : float
        grads : dict of str to ndarray
            Valid until the next call, which writes to the same memory.

        Raises
        ------
        WorkerDied
            If a worker dies; all workers are then ended. What the model raises is raised here too.
        """
        inputs, targets = np.asarray(inputs), np.asarray(targets)
        if inputs.ndim != 2 or inputs.shape != targets.shape or inputs.size == 0:
            raise ValueError(f"inputs have shape {inputs.shape} and targets {targets.shape} but both must be (B, T), "
                             "the same, with at least one token")
        if not self._workers:
            raise RuntimeError("the workers are closed")
        for name, shared in self._params.items():
            if self.model.params[name] is not shared:               # replaced by the caller
                shared[...] = self.model.params[name]
                self.model.params[name] = shared
        busy = self._workers[:len(inputs)]
        shards = (np.array_split(tokens, len(busy)) for tokens in (inputs, targets))
        rngs = [np.random.default_rng(rng.integers(2**63)) if dropout and rng is not None else None for _ in busy]
        try:
            for worker, x, y, own_rng in zip(busy, *shards, rngs, strict=True):
                worker.send((x, y, dropout, own_rng, len(x) / len(inputs)))
            answers = [worker.receive() for worker in busy]
        except BaseException:           # a late answer would be taken for the answer to the next question
            self.close()
            raise
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        grads, *others = self._grads[:len(busy)]
        for other in others:
            for name, grad in grads.items():
                grad += other[name]
        return sum(answers), dict(grads)

    def close(self):
        """End the processes, and give the model arrays of its own again."""
        for name, shared in self._params.items():
            if self.model.params.get(name) is shared:
                self.model.params[name] = shared.copy()
        for worker in self._workers:
            worker.end()
        self._workers, self._params, self._grads = [], {}, []
        self._folder.cleanup()                                      # Windows refuses it while the file is open

    def __exit__(self, *_):
        self.close()


class _Worker:
    """A process that answers questions; both travel as pickles through its standard input and output."""

    def __init__(self, name):
        self.name = name
        self.errors = tempfile.TemporaryFile()                      # a pipe could fill up and block the process
        with block_stop_signals():          # the parent decides when it stops, also where a shutdown signals everyone
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *sys.path], env=os.environ | ONE_THREAD, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=self.errors, start_new_session=True)

    def send(self, question):
        question = pickle.dumps(question)
        with contextlib.suppress(BrokenPipeError):                  # it has died: `receive` says so
            self.process.stdin.write(question)
            self.process.stdin.flush()

    def receive(self):
        try:
            return pickle.load(self.process.stdout)
        except EOFError:
            code = self.process.wait()
            self.errors.seek(0)
            lines = self.errors.read().decode(errors="replace").splitlines()[-10:]
            if code < 0:                                            # on POSIX: ended by a signal
                how = f"was killed by {signal.Signals(-code).name}"
                how += "; perhaps memory ran out" if -code == signal.SIGKILL else ""
            else:
                how = f"died with exit code {code}"
            raise WorkerDied("\n".join([f"{self.name} {how}", *lines])) from None

    def end(self):
        self.process.kill()                                         # it holds nothing that must be saved
        with contextlib.suppress(BrokenPipeError), self.process:    # closes the pipes and waits
            pass
        self.errors.close()


def serve():
    """Run a worker process: make the model from the shared arrays, then answer until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)                    # where signals cannot be blocked: Windows
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                                                   # keeps what is printed apart from the answers
    kind, metadata, path, layout, start = pickle.load(questions)
    model, out = kind(_arrays(path, layout, 0)), _arrays(path, layout, start)
    if metadata is not None:                                        # it may say what the group norm's epsilon is
        model.metadata = metadata
    answer = "ready"
    with contextlib.suppress(EOFError):                             # the parent is gone
        while True:
            pickle.dump(answer, answers)
            answers.flush()
            answer = _answer(model, out, *pickle.load(questions))


def _answer(model, out, inputs, targets, dropout, rng, weight):
    """Write a shard's gradient times `weight` to `out`; return its loss times `weight`, or the error."""
    try:
        loss, grads = model.loss_and_grads(inputs, targets, dropout=dropout, rng=rng)
        for name, array in out.items():
            np.multiply(grads[name], weight, out=array)
        return weight * loss
    except Exception as error:
        try:
            return pickle.loads(pickle.dumps(error))
        except Exception:                                           # not every error can be pickled
            return RuntimeError(f"{type(error).__name__}: {error}")


def _layout(params):
    """Return where each array lies in the shared memory, {name: (offset, shape, dtype)}, and the size of it all."""
    layout, size = {}, 0
    for name, array in params.items():
        layout[name] = size, array.shape, array.dtype
        size += -(-array.nbytes // 64) * 64                         # each array begins with a cache line
    return layout, size


def _fill_with_zeros(path, size):
    """Write so many bytes: the room is taken now, as a lack of it would be a bus error later."""
    zeros = bytes(min(size, 2**24))
    try:
        with open(path, "xb") as file:
            for start in range(0, size, len(zeros)):
                file.write(zeros[:size - start])
    except OSError as error:
        raise OSError(error.errno, f"no room for {size / 1e6:,.0f} MB of arrays that the workers share in "
                                   f"{path.parent.parent}: {error.strerror}") from None


def _arrays(path, layout, start):
    memory = np.memmap(path, mode="r+")
    return {name: np.ndarray(shape, dtype, memory, start + offset) for name, (offset, shape, dtype) in layout.items()}


def _in_memory(size):
    """Return a folder in memory with room for `size` bytes, or None for the default folder."""
    folder = "/dev/shm"
    return folder if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > size else None
