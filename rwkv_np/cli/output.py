"""Where a command writes: nothing that exists is overwritten."""

from pathlib import Path


def unused_path(path):
    """Return `path`, or path-2, path-3, ...: the first that does not exist.

    Parameters
    ----------
    path : path

    Returns
    -------
    Path

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "model").mkdir()
    >>> unused_path(folder / "model").name
    'model-2'
    """
    path = Path(path)
    candidates = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 10**6))
    return next(p for p in candidates if not p.exists())
