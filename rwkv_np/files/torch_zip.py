"""PyTorch's files of arrays (``.pth``, ``.bin``), read and written without PyTorch.

Since PyTorch 1.6 such a file is a zip archive in which nothing is compressed:

    archive/data.pkl    a pickle: names, and for each tensor its storage, offset, shape and strides
    archive/data/0 ...  the storages, plain numbers
    archive/byteorder   "little"
    archive/version     "3"

A pickle is a program for a small stack machine, and Python's own machine does what it is told: import any
module, call any function. `_run` is a machine of our own that knows only the instructions that tensors need.
All it can build is tuples, lists, dicts and `Tensor`; a global is a name to it, never an object.
"""

import json
import math
import mmap
import pickle
import pickletools
import struct
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

STORAGES = {"torch FloatStorage": "float32", "torch HalfStorage": "float16", "torch BFloat16Storage": "bfloat16",
            "torch DoubleStorage": "float64", "torch LongStorage": "int64", "torch IntStorage": "int32",
            "torch ShortStorage": "int16", "torch CharStorage": "int8", "torch ByteStorage": "uint8",
            "torch BoolStorage": "bool"}
TENSOR, PARAMETER = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"
DICT = "collections OrderedDict"
NOTE = "rwkv_np.json"           # an entry of ours, which PyTorch passes over


class Tensor(NamedTuple):
    """Where a tensor lies: `shape` and `strides` count elements, from `offset` in `storage`."""

    storage: tuple              # ("storage", type, entry, device, number of elements)
    offset: int
    shape: tuple
    strides: tuple


def read(path):
    """The arrays of a file, as read-only views of its pages on disk, and our note in it.

    Returns
    -------
    arrays : dict of str to ndarray
        bfloat16 arrays have the dtype of `ml_dtypes`.
    note : dict
        What `write` was given; {} in files of others.

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
            entries = _entries(file, data)
        except (zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
            raise ValueError(f"it is not a whole zip archive: {error}") from None
    if "data.pkl" not in entries:
        raise ValueError("it lacks the entry data.pkl, which names the tensors")
    if bytes(entries.get("byteorder", b"little")) != b"little":
        raise ValueError("its numbers are stored in another byte order than little")
    try:
        content = _run(bytes(entries["data.pkl"]))
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"data.pkl is not a whole pickle: {type(error).__name__} {error}") from None
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
            arrays[name] = _view(tensor, entries)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    try:
        return arrays, json.loads(bytes(entries.get(NOTE, b"{}")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its entry {NOTE} is not JSON: {error}") from None


def _entries(file, data):
    """The entries of the archive by name, without its first folder, as views of `data`; checksums verified."""
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


def _view(tensor, entries):
    """The array that a tensor describes, if it lies within its storage."""
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


def _run(program):
    """What a pickle of tensors stands for. Anything that a tensor does not need is a ValueError that names it."""
    stack, marks, memo = [], [], {}

    def since_mark():
        start = marks.pop()
        taken = stack[start:]
        del stack[start:]
        return taken

    for instruction, argument, _ in pickletools.genops(program):
        match instruction.name:
            case "PROTO" | "FRAME":
                pass
            case ("BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE"):
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction.name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = int(instruction.name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            case "APPEND":
                value = stack.pop()
                list.append(stack[-1], value)
            case "APPENDS":
                values = since_mark()
                list.extend(stack[-1], values)
            case "SETITEM":
                key, value = stack.pop(-2), stack.pop()
                dict.__setitem__(stack[-1], key, value)
            case "SETITEMS":
                values = since_mark()
                dict.update(stack[-1], zip(values[::2], values[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_allowed(argument))
            case "STACK_GLOBAL":
                stack[-2:] = [_allowed(" ".join(stack[-2:]))]
            case "BINPERSID":
                match stack[-1]:
                    case ("storage", str(kind), str(), str(), int()) if kind in STORAGES:
                        pass
                    case _:
                        raise ValueError("data.pkl names a storage that is none")
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_call(function, arguments))
            case "BUILD":               # what a state_dict says about its modules: not needed
                stack.pop()
                if not isinstance(stack[-1], dict):
                    raise ValueError("data.pkl sets attributes of something that is no dict; refused")
            case "STOP":
                return stack.pop()
            case other:
                raise ValueError(f"data.pkl holds the instruction {other}, which no tensor needs; refused")


def _allowed(name):
    if name not in (*STORAGES, TENSOR, PARAMETER, DICT):
        raise ValueError(f"data.pkl asks for {name.replace(' ', '.')[:200]}, which no tensor needs; refused")
    return name


def _call(function, arguments):
    match function, arguments:
        case "torch._utils _rebuild_tensor_v2", ((_, _, _, _, _) as storage, int(offset), tuple(shape),
                                                 tuple(strides), *_):
            natural = all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))
            if natural and len(shape) == len(strides) <= 8:
                return Tensor(storage, offset, shape, strides)
        case "torch._utils _rebuild_parameter", (Tensor() as tensor, *_):
            return tensor
        case "collections OrderedDict", ():
            return {}
        case "collections OrderedDict", ([*pairs],):
            return dict(pairs)
    raise ValueError(f"data.pkl calls {str(function)[:80]} with arguments that do not fit")


def write(file, arrays, note):
    """Write arrays of float16, float32, float64 or bfloat16 to an open binary file, as ``torch.save`` would.

    Parameters
    ----------
    arrays : iterable of (str, ndarray)
        Taken one after the other, so that they need not be in memory all at once.
    note : dict
        Anything JSON can hold; `read` returns it, PyTorch passes over it.
    """
    program, kinds = [pickle.PROTO + b"\2", pickle.EMPTY_DICT], {dtype: kind for kind, dtype in STORAGES.items()}
    with zipfile.ZipFile(file, "w") as archive:
        for key, (name, array) in enumerate(arrays):
            array = np.ascontiguousarray(array)
            strides = [math.prod(array.shape[axis + 1:]) for axis in range(array.ndim)]
            storage = _tuple(_text("storage"), _global(kinds[array.dtype.name]), _text(str(key)), _text("cpu"),
                             _number(array.size)) + pickle.BINPERSID
            hooks = _global(DICT) + pickle.EMPTY_TUPLE + pickle.REDUCE
            tensor = _global(TENSOR) + _tuple(
                storage, _number(0), _tuple(*map(_number, array.shape)), _tuple(*map(_number, strides)),
                pickle.NEWFALSE, hooks) + pickle.REDUCE
            program += [_text(name), tensor, pickle.SETITEM]
            _store(archive, f"data/{key}", memoryview(array.reshape(-1).view(np.uint8)))
        _store(archive, "data.pkl", b"".join([*program, pickle.STOP]))
        _store(archive, "byteorder", b"little")
        _store(archive, "version", b"3\n")
        _store(archive, NOTE, json.dumps(note).encode())


def _store(archive, name, data):
    """One entry, its bytes beginning at a multiple of 64 in the file, as in PyTorch's own."""
    info = zipfile.ZipInfo(f"archive/{name}")           # with zipfile's fixed date: same model, same bytes
    padding = -(archive.fp.tell() + 30 + len(info.filename) + 4) % 64
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(info, data)
    info.extra = b""                                    # not again in the archive's list of entries


def _text(text):
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _number(n):
    data = pickle.encode_long(n)
    return pickle.LONG1 + bytes([len(data)]) + data


def _global(name):
    return pickle.GLOBAL + name.replace(" ", "\n").encode() + b"\n"


def _tuple(*items):
    return pickle.MARK + b"".join(items) + pickle.TUPLE
