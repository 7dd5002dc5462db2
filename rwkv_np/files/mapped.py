"""The content of a file, without reading it: the system reads the pages that are looked at."""

import os


def map_file(path: str | os.PathLike) -> memoryview:
    """Return the bytes of a file.

    Parameters
    ----------
    path : path

    Returns
    -------
    memoryview
        Read-only. Where the system cannot map files, they are read.

    Raises
    ------
    FileNotFoundError
        If there is no file.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "x"
    >>> _ = path.write_bytes(b"abc")
    >>> bytes(map_file(path)[1:])
    b'bc'
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    with open(path, "rb") as file:
        try:
            import mmap
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (ImportError, OSError, ValueError):              # ValueError: an empty file
            return memoryview(file.read())
