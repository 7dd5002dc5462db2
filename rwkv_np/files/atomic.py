"""Files that are never half written."""

import contextlib
import os
import secrets
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike):
    """Write a file beside `path` and rename it to `path` once it is complete.

    Whatever happens, `path` holds either its old content or all of the new one, and a failure leaves no temporary
    file. Permissions are those of an ordinary new file.

    Parameters
    ----------
    path : path

    Yields
    ------
    file
        Open for writing bytes.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "greeting.txt"
    >>> with atomic_write(path) as file:
    ...     _ = file.write(b"hello")
    >>> path.read_bytes()
    b'hello'
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())         # the content must be on disk before the name points to it
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
