"""The format of ``.safetensors`` files, in NumPy alone.

A file is

    8 bytes          the length of the header, a little-endian integer
    the header       JSON: {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}, and under
                     "__metadata__" a dict of strings
    the data         the arrays, row by row, without gaps; offsets count from its first byte

Source: https://github.com/huggingface/safetensors/blob/v0.6.2/README.md#format
"""

import json
import math

import numpy as np

from .dtypes import BFLOAT16

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": BFLOAT16, "I64": "<i8", "I32": "<i4", "I16": "<i2",
          "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}
DTYPES = {name: np.dtype(dtype) for name, dtype in DTYPES.items()}
LONGEST_HEADER = 100_000_000


def is_safetensors(start: bytes) -> bool:
    """Say whether a file that begins so is a ``.safetensors`` file: a length, then the brace of a JSON dict.

    Examples
    --------
    >>> is_safetensors(bytes([2, 0, 0, 0, 0, 0, 0, 0]) + b"{}")
    True
    """
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER


def read(data) -> tuple[dict, dict]:
    """Read the content of a file.

    Parameters
    ----------
    data : bytes or memoryview

    Returns
    -------
    arrays : dict of str to ndarray
        Read-only views of `data`; bfloat16 arrays have the dtype `dtypes.BFLOAT16`.
    strings : dict of str to str
        The file's metadata.

    Raises
    ------
    ValueError
        If that is not a whole file.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> write(file, {"x": np.arange(3.0)}, {"made by": "an example"})
    >>> read(file.getvalue())
    ({'x': array([0., 1., 2.])}, {'made by': 'an example'})
    """
    data = memoryview(data)                             # so that slices are views
    if not is_safetensors(bytes(data[:9])):
        raise ValueError("it is not a .safetensors file: it does not begin with a header")
    length = int.from_bytes(data[:8], "little")
    if 8 + length > len(data):
        raise ValueError(f"it is not a whole .safetensors file: its header has {length} bytes, the file {len(data)}")
    try:
        header = json.loads(bytes(data[8:8 + length]), object_pairs_hook=check_pairs)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not a whole .safetensors file: its header is not JSON: {str(error)[:200]}") from None
    strings = header.pop("__metadata__", {})
    if not isinstance(strings, dict) or not all(isinstance(text, str) for text in strings.values()):
        raise ValueError("its __metadata__ are not a dict of strings")
    arrays, body, end = {}, data[8 + length:], 0
    for name, entry in sorted(header.items(), key=get_offsets):
        dtype, shape, (start, stop) = str(entry.get("dtype")), entry.get("shape"), get_offsets((name, entry))
        if dtype not in DTYPES:
            raise ValueError(f"{name} is {dtype[:20]}, which is not read; it must be one of {', '.join(DTYPES)}")
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**63 for n in shape) or len(shape) > 32:
            raise ValueError(f"{name} has the shape {str(shape)[:80]} but must have a list of sizes")
        if (start, stop - start) != (end, math.prod(shape) * DTYPES[dtype].itemsize):
            raise ValueError(f"{name} lies from {start} to {stop}, but it is {dtype} of shape {tuple(shape)} and must "
                             f"begin at {end}, where the array before it ends")
        if stop > len(body):
            raise ValueError(f"it is not a whole .safetensors file: it lacks {stop - len(body)} bytes of {name}")
        arrays[name], end = np.frombuffer(body[start:stop], DTYPES[dtype]).reshape(shape), stop
    if end != len(body):
        raise ValueError(f"it is not a whole .safetensors file: {len(body) - end} bytes belong to no array")
    return arrays, strings


def check_pairs(pairs: list) -> dict:
    """Return the dict of a JSON object; a name that is there twice is a ValueError.

    Examples
    --------
    >>> check_pairs([("x", 1), ("x", 2)])
    Traceback (most recent call last):
    ValueError: x is there twice
    """
    content = dict(pairs)
    if len(content) != len(pairs):
        names = sorted(name for name, _ in pairs)
        raise ValueError(f"{next(a for a, b in zip(names, names[1:], strict=False) if a == b)[:80]} is there twice")
    return content


def get_offsets(item: tuple) -> tuple:
    """Return where an array begins and ends, from a header's (name, entry); anything else is a ValueError.

    Examples
    --------
    >>> get_offsets(("x", {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}))
    (0, 8)
    """
    match item:
        case (_, {"data_offsets": [int(start), int(stop)]}) if 0 <= start <= stop:
            return start, stop
    raise ValueError(f"it is not a whole .safetensors file: its header does not say where {item[0][:80]} lies")


def write(file, arrays: dict, strings: dict | None = None) -> None:
    """Write arrays and metadata to an open binary file. The same input gives the same bytes.

    Parameters
    ----------
    file
        Open for writing bytes.
    arrays : dict of str to ndarray
        bfloat16 arrays have the dtype `dtypes.BFLOAT16`.
    strings : dict of str to str, optional
        The file's metadata.

    Raises
    ------
    ValueError
        For a dtype that the format lacks.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, end = {"__metadata__": strings} if strings else {}, 0
    ordered = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)       # so that every array is aligned
    for name in ordered:
        dtype = arrays[name].dtype.newbyteorder("<")
        if dtype not in names:
            raise ValueError(f"{name} is {dtype} but must be one of {', '.join(map(str, names))}")
        stop = end + arrays[name].nbytes
        header[name] = {"dtype": names[dtype], "shape": list(arrays[name].shape), "data_offsets": [end, stop]}
        end = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in ordered:
        array = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False)
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
