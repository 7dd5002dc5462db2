"""Pickles of tensors, read without executing anything.

A pickle is a program for a small stack machine, and Python's own machine does what it is told: import any
module, call any function. `read_pickle` is a machine that knows only the instructions that tensors need. It
can build nothing but tuples, lists, dicts, sets and `Tensor`; to it a global is a name, never an object.
Checkpoints of whole training runs hold other things beside tensors, such as their options; the usual ones
are read as `Other`, a name without a value.
"""

import pickle
import pickletools
import re
import struct
from typing import NamedTuple

STORAGES = {"torch FloatStorage": "float32", "torch HalfStorage": "float16", "torch BFloat16Storage": "bfloat16",
            "torch DoubleStorage": "float64", "torch LongStorage": "int64", "torch IntStorage": "int32",
            "torch ShortStorage": "int16", "torch CharStorage": "int8", "torch ByteStorage": "uint8",
            "torch BoolStorage": "bool"}
TENSOR, PARAMETER = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"
DICT = "collections OrderedDict"
TORCH_DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
OTHERS = {
    "argparse Namespace", "types SimpleNamespace", "torch Size", "torch device", "collections defaultdict",
    "collections deque", "copyreg _reconstructor", "copy_reg _reconstructor", "_codecs encode",
    "datetime datetime", "datetime timedelta", "pathlib PosixPath", "pathlib WindowsPath", "pathlib Path",
    "pathlib._local PosixPath", "numpy dtype", "numpy.core.multiarray scalar", "numpy._core.multiarray scalar",
    "numpy ndarray", "numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct",
    *(f"{module} {kind}" for module in ("builtins", "__builtin__")
      for kind in ("set", "frozenset", "dict", "list", "tuple", "int", "float", "str", "bytes", "bytearray", "bool",
                   "object", "complex", "slice", "range", "long", "unicode")),
    *(f"torch {dtype}" for dtype in TORCH_DTYPES)}


class Tensor(NamedTuple):
    """Say where a tensor lies: `shape` and `strides` count elements, from `offset` in `storage`.

    Attributes
    ----------
    storage : tuple
        ("storage", type, entry, device, number of elements)
    offset : int
    shape, strides : tuple of int
    """

    storage: tuple
    offset: int
    shape: tuple
    strides: tuple


class Other(NamedTuple):
    """A value that is no tensor and was not read: the name of its class.

    Attributes
    ----------
    name : str
    """

    name: str


def read_pickle(program: bytes):
    """Return what a pickle of tensors stands for.

    Parameters
    ----------
    program : bytes

    Returns
    -------
    Nested tuples, lists, dicts, sets, numbers, strings, `Tensor` and `Other`.

    Raises
    ------
    ValueError
        For anything that neither tensors nor the usual values beside them need, naming it, and for a pickle
        that is not whole.

    Examples
    --------
    >>> import fractions
    >>> read_pickle(pickle.dumps({"steps": (1, 2)}, protocol=2))
    {'steps': (1, 2)}
    >>> read_pickle(pickle.dumps(fractions.Fraction, protocol=2))
    Traceback (most recent call last):
    ValueError: data.pkl asks for fractions.Fraction, which no tensor needs; refused
    """
    try:
        return _run(program)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"data.pkl is not a whole pickle: {type(error).__name__} {error}") from None


def _run(program):
    """Run the instructions; see `read_pickle`."""
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
            case ("BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE"
                  | "BINUNICODE8" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8"):
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction.name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_SET":
                stack.append(set())
            case "ADDITEMS":
                values = since_mark()
                set.update(stack[-1], values)
            case "FROZENSET":
                stack.append(frozenset(since_mark()))
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = int(instruction.name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            case "APPEND":
                _extend(stack[-2], [stack.pop()])
            case "APPENDS":
                values = since_mark()
                _extend(stack[-1], values)
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
                stack.append(_check_global(argument))
            case "STACK_GLOBAL":
                stack[-2:] = [_check_global(" ".join(stack[-2:]))]
            case "BINPERSID":
                match stack[-1]:
                    case ("storage", str(kind), str(), str(), int()) if kind in STORAGES:
                        pass
                    case _:
                        raise ValueError("data.pkl names a storage of an unknown kind")
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_call(function, arguments))
            case "BUILD":               # attributes, such as a state_dict's remarks on its modules: not needed
                stack.pop()
                if not isinstance(stack[-1], dict | Other):
                    raise ValueError("data.pkl sets attributes of something that is no dict; refused")
            case "STOP":
                return stack.pop()
            case other:
                raise ValueError(f"data.pkl holds the instruction {other}, which no tensor needs; refused")


def _extend(target, values):
    """Append values to a list; what holds them is dropped where it is an `Other`, such as a deque."""
    if not isinstance(target, Other):
        list.extend(target, values)


def _check_global(name):
    """Return a global that tensors or the usual values beside them need; any other is a ValueError."""
    if name in OTHERS:
        return Other(name.replace(" ", "."))
    if name.startswith(("torch.nn", "__torch__")):
        raise ValueError(f"it holds a whole module, {name.replace(' ', '.')[:80]}, which only PyTorch can build; save "
                         "its arrays instead: torch.save(model.state_dict(), 'new.pth')")
    if re.fullmatch(r"torch \w+Storage|torch._utils _rebuild_tensor_v3", name) and name not in STORAGES:
        raise ValueError(f"it holds tensors of a dtype that is not read ({name.replace(' ', '.')}), such as complex "
                         "numbers or float8")
    if name not in (*STORAGES, TENSOR, PARAMETER, DICT):
        raise ValueError(f"data.pkl asks for {name.replace(' ', '.')[:200]}, which no tensor needs; refused")
    return name


def _call(function, arguments):
    """Return what a call of one of these globals builds."""
    match function, arguments:
        case "torch._utils _rebuild_tensor_v2", ((_, _, _, _, _) as storage, int(offset), tuple(shape),
                                                 tuple(strides), *_):
            natural = all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))
            if natural and len(shape) == len(strides) <= 8:
                return Tensor(storage, offset, shape, strides)
        case "torch._utils _rebuild_parameter", (Tensor() as tensor, *_):
            return tensor
        case Other("collections.defaultdict"), tuple():
            return {}
        case Other(), tuple():
            return function
        case "collections OrderedDict", ():
            return {}
        case "collections OrderedDict", ([*pairs],):
            return dict(pairs)
    raise ValueError(f"data.pkl calls {str(function)[:80]} with arguments that do not fit")


def write_pickle(tensors) -> bytes:
    """Return the pickle of a dict of tensors, as ``torch.save`` writes it.

    Parameters
    ----------
    tensors : iterable of (str, Tensor)
        Their names and where they lie.

    Returns
    -------
    bytes

    Examples
    --------
    >>> x = Tensor(("storage", "torch FloatStorage", "0", "cpu", 6), 0, (2, 3), (3, 1))
    >>> read_pickle(write_pickle([("x", x)])) == {"x": x}
    True
    """
    program = [pickle.PROTO + b"\2", pickle.EMPTY_DICT]
    for name, tensor in tensors:
        word, kind, key, device, count = tensor.storage
        storage = _tuple(_text(word), _global(kind), _text(key), _text(device), _number(count)) + pickle.BINPERSID
        hooks = _global(DICT) + pickle.EMPTY_TUPLE + pickle.REDUCE
        arguments = _tuple(storage, _number(tensor.offset), _tuple(*map(_number, tensor.shape)),
                           _tuple(*map(_number, tensor.strides)), pickle.NEWFALSE, hooks)
        program += [_text(name), _global(TENSOR) + arguments + pickle.REDUCE, pickle.SETITEM]
    return b"".join([*program, pickle.STOP])


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
