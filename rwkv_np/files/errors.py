"""The error for files that are not what they should be, and the warning for those that nearly are."""

import contextlib
import os


class CheckpointError(ValueError):
    """A file that is not what it should be; the message names the file, the array and what it must be."""


class CheckpointWarning(UserWarning):
    """A file was read, but not simply as it is; the message names the file and says what was done."""


@contextlib.contextmanager
def name_file(path: str | os.PathLike):
    """Raise errors about the content of a file as `CheckpointError`, naming the file.

    Parameters
    ----------
    path : path

    Raises
    ------
    CheckpointError
        In place of what the readers raise for wrong content. FileNotFoundError and other OSErrors pass
        unchanged.

    Examples
    --------
    >>> with name_file("m.pth"):
    ...     raise ValueError("it is empty")
    Traceback (most recent call last):
    CheckpointError: m.pth: it is empty
    """
    try:
        yield
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from None
