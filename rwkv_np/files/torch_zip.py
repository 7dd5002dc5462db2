"""PyTorch's files of arrays (``.pth``, ``.bin``), read and written without PyTorch.

Since PyTorch 1.6 such a file is a zip archive in which nothing is compressed:

    archive/data.pkl    a pickle: names, and for each tensor its storage, offset, shape and strides
    archive/data/0 ...  the storages, plain numbers
    archive/byteorder   "little"
    archive/version     "3"
"""

import json
import math
import mmap
import os
import struct
import zipfile
import zlib

import numpy as np

from .torch_pickle import STORAGES, Tensor, read_pickle, write_pickle

METADATA = "rwkv_np.json"       # an entry of this project's own files, which PyTorch ignores


def read(path: str | os.PathLike) -> tuple[dict, dict]:
    """Read the arrays of a file, as read-only views of its pages on disk, and the metadata in it.

    Parameters
    ----------
    path : path

    Returns
    -------
    arrays : dict of str to ndarray
        bfloat16 arrays have the dtype of `ml_dtypes`.
    metadata : dict
        What `write` was given; {} in files of other programs.

    Raises
    ------
    ValueError
        For anything that is not a whole file of plain tensors. Nothing in the file is ever executed, and the
        arrays together hold no more elements than the file has bytes.
    """
    with open(path, "rb") as file:
        start = file.read(2)
        if start == b"\x80\x02":
            raise ValueError("it has PyTorch's format from before version 1.6. Convert it where PyTorch is installed: "
                             "torch.save(torch.load('old.pth', map_location='cpu', weights_only=True), 'new.pth')")
        if start != b"PK":
            raise ValueError("it is not a zip archive, which a file of PyTorch's is")
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        try:
            entries = list_entries(file, data)
        except (zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
            raise ValueError(f"it is not a whole zip archive: {error}") from None
    if "data.pkl" not in entries:
        raise ValueError("it lacks the entry data.pkl, which names the tensors")
    if bytes(entries.get("byteorder", b"little")) != b"little":
        raise ValueError("its numbers are stored in another byte order than little")
    content = read_pickle(bytes(entries["data.pkl"]))
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__} but must hold a dict of tensors")
    arrays, left = {}, len(data)
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{str(name)[:80]} is a {type(tensor).__name__} but must be a tensor under its name")
        left -= math.prod(tensor.shape)
        if left < 0:
            raise ValueError(f"up to {name} its tensors have more elements than the file has bytes, {len(data)}")
        try:
            arrays[name] = view_tensor(tensor, entries)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    try:
        return arrays, json.loads(bytes(entries.get(METADATA, b"{}")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its entry {METADATA} is not JSON: {error}") from None


def list_entries(file, data: memoryview) -> dict[str, memoryview]:
    """Return the entries of an archive by name, without its first folder, as views of `data`.

    Parameters
    ----------
    file
        The archive, open for reading bytes.
    data : memoryview
        Its content.

    Raises
    ------
    zipfile.BadZipFile
        If an entry is compressed, leaves the file, overlaps others or differs from its checksum.
    """
    entries, left = {}, len(data)
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise zipfile.BadZipFile(f"{info.filename} is compressed or encrypted; PyTorch stores plain bytes")
            signature, name_length, extra_length = struct.unpack_from("<4s22xHH", data, info.header_offset)
            start = info.header_offset + 30 + name_length + extra_length
            entry, left = data[start:start + info.file_size], left - info.file_size
            if signature != b"PK\3\4" or len(entry) != info.file_size or left < 0:
                raise zipfile.BadZipFile(f"{info.filename} does not lie where the archive says")
            if zlib.crc32(entry) != info.CRC:
                raise zipfile.BadZipFile(f"{info.filename} differs from its checksum")
            entries[info.filename.partition("/")[2]] = entry
    return entries


def view_tensor(tensor: Tensor, entries: dict) -> np.ndarray:
    """Return the array that a tensor describes, a read-only view of its storage.

    Raises
    ------
    ValueError
        If the storage is missing or the tensor leaves it.

    Examples
    --------
    >>> x = Tensor(("storage", "torch ByteStorage", "0", "cpu", 6), 0, (2, 3), (1, 2))
    >>> view_tensor(x, {"data/0": b"abcdef"})
    array([[ 97,  99, 101],
           [ 98, 100, 102]], dtype=uint8)
    """
    _, kind, key, _, count = tensor.storage
    if kind == "torch BFloat16Storage":
        import ml_dtypes
        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = np.dtype(STORAGES[kind])
    entry = entries.get(f"data/{key}")
    if entry is None or len(entry) != count * dtype.itemsize:
        raise ValueError(f"its storage data/{key} has {'no' if entry is None else len(entry)} bytes "
                         f"but must have {count * dtype.itemsize}")
    offset, shape, strides = tensor.offset, tensor.shape, tensor.strides
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    if last >= count:
        raise ValueError(f"shape {shape} with strides {strides} from {offset} leaves its storage of {count}")
    numbers = np.frombuffer(entry, dtype)
    return np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, [step * dtype.itemsize for step in strides], writeable=False)


def write(file, arrays, metadata: dict) -> None:
    """Write arrays of float16, float32, float64 or bfloat16 to an open binary file, as ``torch.save`` would.

    Parameters
    ----------
    file
        Open for writing bytes.
    arrays : iterable of (str, ndarray)
        Taken one after the other, so that only one needs to be in memory.
    metadata : dict
        Anything that JSON can hold; `read` returns it, PyTorch ignores it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "x.pth"
    >>> with open(path, "wb") as file:
    ...     write(file, [("x", np.ones(2))], {"made by": "an example"})
    >>> read(path)
    ({'x': array([1., 1.])}, {'made by': 'an example'})
    """
    kinds, tensors = {dtype: kind for kind, dtype in STORAGES.items()}, []
    with zipfile.ZipFile(file, "w") as archive:
        for key, (name, array) in enumerate(arrays):
            array = np.ascontiguousarray(array)
            strides = tuple(math.prod(array.shape[axis + 1:]) for axis in range(array.ndim))
            storage = ("storage", kinds[array.dtype.name], str(key), "cpu", array.size)
            tensors.append((name, Tensor(storage, 0, array.shape, strides)))
            add_entry(archive, f"data/{key}", memoryview(array.reshape(-1).view(np.uint8)))
        add_entry(archive, "data.pkl", write_pickle(tensors))
        add_entry(archive, "byteorder", b"little")
        add_entry(archive, "version", b"3\n")
        add_entry(archive, METADATA, json.dumps(metadata).encode())


def add_entry(archive: zipfile.ZipFile, name: str, data) -> None:
    """Add one entry, its bytes beginning at a multiple of 64 in the file, as in PyTorch's own files."""
    info = zipfile.ZipInfo(f"archive/{name}")           # with zipfile's fixed date: same model, same bytes
    padding = -(archive.fp.tell() + 30 + len(info.filename) + 4) % 64
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(info, data)
    info.extra = b""                                    # not again in the archive's list of entries
