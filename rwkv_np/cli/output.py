"""Check and take the places that a command writes to, before its work begins; nothing that exists is overwritten."""

import contextlib
import itertools
import os
from pathlib import Path

from ..files.atomic import check_destination
from .common import UsageError


@contextlib.contextmanager
def new_folder(option: str, path: str | None, default: str):
    """Make a new folder for the results; remove it at the end if nothing was put into it.

    The folder is made at once, so that two commands never choose the same one.

    Parameters
    ----------
    option : str
        The option that names it, for messages.
    path : str or None
        If it exists, path-2 is taken, or path-3, ... Its parent must exist.
    default : str
        Taken where `path` is None; its parents are made.

    Yields
    ------
    Path

    Raises
    ------
    UsageError
        If the folder cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> out = tempfile.mkdtemp() + "/model"
    >>> with new_folder("--out", out, "out/model") as first, new_folder("--out", out, "out/model") as second:
    ...     first.name, second.name
    ('model', 'model-2')
    """
    with contextlib.ExitStack() as made:
        for parent in reversed(Path(default).parents if path is None else ()):
            if not parent.is_dir():
                parent.mkdir(exist_ok=True)
                made.enter_context(remove_if_empty(parent))
        wanted = check_folder(option, default if path is None else path)
        for n in itertools.count(1):
            folder = wanted if n == 1 else wanted.with_name(f"{wanted.name}-{n}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                break
        made.enter_context(remove_if_empty(folder))
        yield folder


def check_folder(option: str, path: str) -> Path:
    """Return the path of a folder that can be made; its parent exists.

    Raises
    ------
    UsageError
        Naming the option.

    Examples
    --------
    >>> check_folder("--out", "nowhere/model")
    Traceback (most recent call last):
    UsageError: --out: nowhere/model cannot be made: there is no folder nowhere
    """
    folder = Path(path)
    if folder.name in ("", ".."):
        raise UsageError(f"{option} is {str(path)!r} but must name a new folder")
    if not folder.parent.is_dir():
        raise UsageError(f"{option}: {folder} cannot be made: there is no folder {folder.parent}")
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{option}: {folder} cannot be made: the folder {folder.parent} is read-only")
    return folder


@contextlib.contextmanager
def reserve(option: str, path: str, folder: bool = False):
    """Make a new file, or a folder, before the work whose result it will hold; remove it if it stays empty.

    Parameters
    ----------
    option : str
        The option that names it, for messages.
    path : str
    folder : bool

    Yields
    ------
    Path

    Raises
    ------
    UsageError
        If it exists, or cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> with reserve("--save-state", str(path)):
    ...     path.exists()                       # nobody else can take the name now
    True
    >>> path.exists()                           # nothing was written to it
    False
    """
    if os.path.lexists(path):
        raise UsageError(f"{option}: {path} exists; name a new {'folder' if folder else 'file'}")
    try:
        target = check_folder(option, path) if folder else check_destination(path)
        target.mkdir() if folder else target.open("xb").close()
    except FileExistsError:
        raise UsageError(f"{option}: {path} exists; name a new {'folder' if folder else 'file'}") from None
    except OSError as error:
        raise UsageError(f"{option}: {error}") from None
    with remove_if_empty(target):
        yield target


@contextlib.contextmanager
def remove_if_empty(path: Path):
    """Remove a file or folder at the end, whatever happened, if nothing was put into it."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path.is_dir():
                path.rmdir()                    # refuses a folder that holds anything
            elif path.stat().st_size == 0:
                path.unlink()
