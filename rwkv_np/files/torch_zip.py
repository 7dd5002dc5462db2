"""PyTorch's files of arrays (``.pth``, ``.bin``), read and written without PyTorch.

Since PyTorch 1.6 such a file is a zip archive in which nothing is compressed:

    archive/data.pkl    a pickle: names, and for each tensor its storage, offset, shape and strides
    archive/data/0 ...  the storages, plain numbers
    archive/byteorder   "little"
    archive/version     "3"
"""

import json
import math
import struct
import zipfile

import numpy as np

from .dtypes import BFLOAT16, dtype_name
from .stored_zip import add_entry, list_entries
from .torch_pickle import STORAGES, Other, Tensor, read_pickle, write_pickle

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."         # the first pickle of the old format, a number
METADATA = "rwkv_np.json"       # an entry of this project's own files, which PyTorch ignores


def read(data) -> tuple[dict, dict]:
    """Read the content of a file.

    Parameters
    ----------
    data : bytes or memoryview

    Returns
    -------
    content : dict
        As it was saved, with dicts inside dicts where there were such. Tensors are read-only views of
        `data`; bfloat16 ones have the dtype `dtypes.BFLOAT16`.
    metadata : dict
        What `write` was given; {} in files of other programs.

    Raises
    ------
    ValueError
        For anything that is not a whole file of plain tensors and the usual values beside them. Nothing in
        the file is ever executed, and the arrays together hold no more elements than the file has bytes.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> write(file, [("x", np.ones(2))], {"made by": "an example"})
    >>> read(file.getvalue())
    ({'x': array([1., 1.])}, {'made by': 'an example'})
    """
    data = memoryview(data)
    if data[:len(LEGACY)] == LEGACY:
        raise ValueError("it has PyTorch's format from before version 1.6. Convert it where PyTorch is installed: "
                         "torch.save(torch.load('old.pth', map_location='cpu', weights_only=True), 'new.pth')")
    try:
        entries = list_entries(data)
    except (zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not a whole zip archive, which a file of PyTorch's is: {error}") from None
    if "data.pkl" not in entries:
        raise ValueError("it is a zip archive, but not one of PyTorch's: it lacks the entry data.pkl, which names the "
                         f"tensors; it holds {', '.join(map(repr, sorted(entries)[:3])) or 'nothing'}")
    if bytes(entries.get("byteorder", b"little")) != b"little":
        raise ValueError("its numbers are stored in another byte order than little")
    content = read_pickle(bytes(entries["data.pkl"]))
    if not isinstance(content, dict):
        kind = content.name if isinstance(content, Other) else type(content).__name__
        raise ValueError(f"it holds a {kind} but must hold a dict of tensors")
    content = view_tensors(content, entries, Budget(len(entries["data.pkl"]), len(data)))
    try:
        return content, json.loads(bytes(entries.get(METADATA, b"{}")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its entry {METADATA} is not JSON: {error}") from None


class Budget:
    """A limit on the values of a file: dicts that hold each other would have no end.

    Parameters
    ----------
    values : int
        As many as the pickle has bytes.
    elements : int
        Of all tensors together: as many as the file has bytes.
    """

    def __init__(self, values: int, elements: int):
        self.values, self.elements = values, elements

    def spend(self, name: str, elements: int = 0) -> None:
        """Count one value, and the elements of a tensor; a ValueError where they exceed the budget."""
        self.values, self.elements = self.values - 1, self.elements - elements
        if self.values < 0:
            raise ValueError("its dicts hold each other without end")
        if self.elements < 0:
            raise ValueError(f"up to {name} its tensors have more elements than the file has bytes")


def view_tensors(content: dict, entries: dict, budget: Budget, prefix: str = "") -> dict:
    """Return a nested dict with arrays in place of its tensors; other values stay.

    Raises
    ------
    ValueError
        Naming the tensor that does not lie in the file.
    """
    viewed = {}
    for key, value in content.items():
        name = f"{prefix}{key}"[:200]
        budget.spend(name, math.prod(value.shape) if isinstance(value, Tensor) else 0)
        if isinstance(value, dict):
            value = view_tensors(value, entries, budget, f"{name}.")
        elif isinstance(value, Tensor):
            try:
                value = view_tensor(value, entries)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        viewed[key] = value
    return viewed


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
    dtype = BFLOAT16 if STORAGES[kind] == "bfloat16" else np.dtype(STORAGES[kind])
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
    >>> import io
    >>> file = io.BytesIO()
    >>> write(file, [("x", np.ones(2))], {})
    >>> zipfile.ZipFile(file).namelist()
    ['archive/data/0', 'archive/data.pkl', 'archive/byteorder', 'archive/version', 'archive/rwkv_np.json']
    """
    kinds, tensors = {dtype: kind for kind, dtype in STORAGES.items()}, []
    with zipfile.ZipFile(file, "w") as archive:
        for key, (name, array) in enumerate(arrays):
            array = np.ascontiguousarray(array)
            strides = tuple(math.prod(array.shape[axis + 1:]) for axis in range(array.ndim))
            storage = ("storage", kinds[dtype_name(array.dtype)], str(key), "cpu", array.size)
            tensors.append((name, Tensor(storage, 0, array.shape, strides)))
            add_entry(archive, f"data/{key}", memoryview(array.reshape(-1).view(np.uint8)))
        add_entry(archive, "data.pkl", write_pickle(tensors))
        add_entry(archive, "byteorder", b"little")
        add_entry(archive, "version", b"3\n")
        add_entry(archive, METADATA, json.dumps(metadata).encode())
