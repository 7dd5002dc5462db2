"""Training on all cores: the gradient of a batch is the mean of the gradients of its parts.

NumPy adds and multiplies arrays on one core, and so runs the Python around it. Here each part of the batch goes to a
process of its own, whose BLAS is limited to one thread: every core is busy all the time. Parameters and gradients lie
in memory that all the processes share; only tokens and losses are sent.
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

# What a worker runs. The search path is the parent's, so that both import the same files.
PROGRAM = ("import sys; sys.path[:] = sys.argv[1:]; from rwkv_np.training import loop, workers; "
           "loop.keep_freed_memory(); workers.serve()")
# A BLAS reads these when it is loaded: hence processes that are started anew, not forked.
ONE_THREAD = {f"{lib}_NUM_THREADS": "1" for lib in ("OPENBLAS", "OMP", "MKL", "BLIS")} | {"VECLIB_MAXIMUM_THREADS": "1"}


def default_count(batch):
    """One worker a core, but at most 4, and no more than there are sequences in a batch."""
    return min(os.cpu_count() or 1, 4, batch)


class Workers(contextlib.AbstractContextManager):
    """Processes that share a training step, a part of the batch each.

    Parameters
    ----------
    model : object
        With ``params``, a dict of arrays, and ``loss_and_grads``; its class can be imported, and called with ``params``
        alone. Until `close`, shared arrays of the same values stand in ``params``: edit or replace them, and the
        workers see it.
    count : int
        How many processes. Dropout's random numbers depend on it, and so does rounding.
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
            path.write_bytes(bytes(total))                          # takes the room now; later it would be a bus error
            shared, *self._grads = (_arrays(path, layout, n * size) for n in range(1 + count))
            for name, array in model.params.items():
                shared[name][...] = array
            for number, worker in enumerate(self._workers, 1):
                worker.send((type(model), path, layout, number * size))
            for worker in self._workers:
                worker.receive()
            self._folder.cleanup()                                  # all have it open: nothing is left if we are killed
            self._params = shared
            model.params.update(shared)
        except BaseException:
            self.close()
            raise

    def loss_and_grads(self, inputs, targets, *, dropout=0.0, rng=None):
        """The model's own loss and gradient, up to rounding, of a batch: inputs and targets (B, T).

        The gradient is good until the next call, which writes to the same memory. With dropout, `rng` draws a seed for
        each part. What the model raises is raised here. A worker that dies ends them all: RuntimeError, with the last
        lines it wrote.
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
        parts = (np.array_split(tokens, len(busy)) for tokens in (inputs, targets))
        rngs = [np.random.default_rng(rng.integers(2**63)) if dropout and rng is not None else None for _ in busy]
        try:
            for worker, x, y, own_rng in zip(busy, *parts, rngs, strict=True):
                worker.send((x, y, dropout, own_rng, len(x) / len(inputs)))
            answers = [worker.receive() for worker in busy]
        except BaseException:                   # an answer still to come would be taken for one to the next question
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
        self._folder.cleanup()                                      # where it was refused before: Windows

    def __exit__(self, *_):
        self.close()


class _Worker:
    """A process that takes questions and gives answers, in pickles, at its standard input and output."""

    def __init__(self, name):
        self.name = name
        self.errors = tempfile.TemporaryFile()                      # a pipe could fill up and hold the process
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *sys.path], env=os.environ | ONE_THREAD, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, start_new_session=True)     # no Ctrl-C, even while it starts

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
            raise RuntimeError("\n".join([f"{self.name} died with exit code {code}", *lines])) from None

    def end(self):
        self.process.kill()                                         # it has nothing to lose
        with contextlib.suppress(BrokenPipeError), self.process:    # closes the pipes and waits
            pass
        self.errors.close()


def serve():
    """What a worker does: make the model from the shared arrays, then answer until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)                    # where there are no sessions: Windows
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                                                   # what is printed must not get among the answers
    kind, path, layout, start = pickle.load(questions)
    model, out = kind(_arrays(path, layout, 0)), _arrays(path, layout, start)
    answer = "ready"
    with contextlib.suppress(EOFError):                             # the parent is gone
        while True:
            pickle.dump(answer, answers)
            answers.flush()
            answer = _answer(model, out, *pickle.load(questions))


def _answer(model, out, inputs, targets, dropout, rng, share):
    """The loss of a part, times its share of the batch; the gradient, so weighted, goes to `out`. Or else the error."""
    try:
        loss, grads = model.loss_and_grads(inputs, targets, dropout=dropout, rng=rng)
        for name, array in out.items():
            np.multiply(grads[name], share, out=array)
        return share * loss
    except Exception as error:
        try:
            return pickle.loads(pickle.dumps(error))
        except Exception:                                           # not every one can be pickled
            return RuntimeError(f"{type(error).__name__}: {error}")


def _layout(params):
    """Where each array lies: {name: (offset, shape, dtype)}, and the size of them all."""
    layout, size = {}, 0
    for name, array in params.items():
        layout[name] = size, array.shape, array.dtype
        size += -(-array.nbytes // 64) * 64                         # each begins with a cache line
    return layout, size


def _arrays(path, layout, start):
    memory = np.memmap(path, mode="r+")
    return {name: np.ndarray(shape, dtype, memory, start + offset) for name, (offset, shape, dtype) in layout.items()}


def _in_memory(size):
    """A folder that is memory, if there is one with so much room; else None, for the usual one."""
    folder = "/dev/shm"
    return folder if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > size else None
