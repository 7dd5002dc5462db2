"""Files that are never half written."""

import contextlib
import os
import secrets
from pathlib import Path


def check_destination(path: str | os.PathLike) -> Path:
    """Raise an error if a file cannot be written to `path`.

    Call it before the work whose result the file will hold.

    Parameters
    ----------
    path : path

    Returns
    -------
    Path

    Raises
    ------
    OSError
        Naming `path`: if its folder is missing, is a file or is read-only, or if `path` is a folder.

    Examples
    --------
    >>> check_destination("nowhere/model.pth")
    Traceback (most recent call last):
    FileNotFoundError: nowhere/model.pth cannot be written: there is no folder nowhere
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} cannot be written: it is a folder")
    if not path.parent.exists():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {path.parent} is no folder")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written: the folder {path.parent} is read-only")
    return path


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike):
    """Write a file beside `path` and rename it to `path` once it is complete.

    Whatever happens, `path` holds either its old content or all of the new one, and a failure leaves no
    temporary file. Permissions are those of an ordinary new file.

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
        If the file cannot be written; it names `path`.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "greeting.txt"
    >>> with atomic_write(path) as file:
    ...     _ = file.write(b"hello")
    >>> path.read_bytes()
    b'hello'
    """
    path = check_destination(path)
    beside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")        # a name may be 255 bytes long
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())         # the content must be on disk before the name points to it
        os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(beside)):
            raise OSError(error.errno, error.strerror, str(path)) from None         # not the temporary name
        raise
