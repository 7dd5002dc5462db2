"""The format of .safetensors files: read and written as the `safetensors` library does, and refused when broken."""

import io
import json

import ml_dtypes
import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import SafetensorError
from safetensors.numpy import load as library_load
from safetensors.numpy import save as library_save

from rwkv_np.files import safetensors_file
from rwkv_np.files.dtypes import BFLOAT16, from_bfloat16, to_bfloat16

DTYPES = st.sampled_from([np.dtype(t) for t in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")])
ARRAYS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "__metadata__"),
    hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)), max_size=5)


def written(arrays, strings=None):
    file = io.BytesIO()
    safetensors_file.write(file, arrays, strings)
    return file.getvalue()


def assert_same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


@settings(max_examples=150)
@given(ARRAYS)
def test_the_library_reads_what_is_written_here_and_the_reverse(arrays):
    assert_same(library_load(written(arrays, {"format": "pt"})), arrays)
    assert_same(safetensors_file.read(library_save(arrays, {"a": "b", "ß": ""}))[0], arrays)
    assert safetensors_file.read(library_save(arrays, {"a": "b", "ß": ""}))[1] == {"a": "b", "ß": ""}
    assert_same(safetensors_file.read(written(arrays))[0], arrays)


def test_bfloat16_is_that_of_the_library():
    values = np.array([1.5, -2.0, 3e38, 0.0], ml_dtypes.bfloat16)
    array = safetensors_file.read(library_save({"x": values}))[0]["x"]
    np.testing.assert_array_equal(from_bfloat16(array), values.astype(np.float32))
    assert array.dtype == BFLOAT16
    ((name, entry),) = safetensors.deserialize(written({"x": to_bfloat16(values.astype(np.float32))}))
    assert (name, entry["dtype"], entry["shape"], bytes(entry["data"])) == ("x", "BF16", [4], values.tobytes())


def test_arrays_in_any_memory_order_are_written_row_by_row():
    array = np.arange(12.0).reshape(3, 4)
    for view in (array.T, array[::2], array[:, ::-1], array.astype(">f8")):
        np.testing.assert_array_equal(library_load(written({"x": view}))["x"], view)


def test_every_array_begins_at_a_multiple_of_its_itemsize():
    """So that readers may map it."""
    arrays = {"a": np.ones(3, np.int8), "b": np.ones(3, np.float16), "c": np.ones(3, np.float32), "d": np.ones(3)}
    data = written(arrays)
    for name, array in safetensors_file.read(data)[0].items():
        start = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
        assert (array.__array_interface__["data"][0] - start) % array.itemsize == 0, name


def header(entries, body=b""):
    text = json.dumps(entries).encode() if not isinstance(entries, bytes) else entries
    return len(text).to_bytes(8, "little") + text + body


GOOD = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize("data, message", [
    (b"", "does not begin with a header"),
    (b"\xff" * 16, "does not begin with a header"),
    ((10**9).to_bytes(8, "little") + b"{", "does not begin with a header"),
    ((100).to_bytes(8, "little") + b"{}", "its header has 100 bytes, the file 10"),
    (header(b"{]"), "its header is not JSON"),
    (header(b'{"x": {}, "x": {}}'), "x is there twice"),
    (header(b'{"a":' * 10_000), "its header is not JSON"),
    (header({"x": 1}), "its header does not say where x lies"),
    (header({"x": {**GOOD["x"], "data_offsets": [8, 0]}}, bytes(8)), "its header does not say where x lies"),
    (header({"x": {**GOOD["x"], "data_offsets": [-8, 0]}}, bytes(8)), "its header does not say where x lies"),
    (header({"x": {**GOOD["x"], "data_offsets": [0.0, 8.0]}}, bytes(8)), "its header does not say where x lies"),
    (header({"x": {**GOOD["x"], "dtype": "F8_E4M3"}}, bytes(8)), "x is F8_E4M3, which is not read"),
    (header({"x": {**GOOD["x"], "dtype": ["F32"]}}, bytes(8)), "x is .*, which is not read"),
    (header({"x": {**GOOD["x"], "shape": [-2]}}, bytes(8)), "x has the shape .* but must have a list of sizes"),
    (header({"x": {**GOOD["x"], "shape": 2}}, bytes(8)), "x has the shape 2 but must have a list of sizes"),
    (header({"x": {**GOOD["x"], "shape": [True] * 2}}, bytes(8)), "must have a list of sizes"),
    (header({"x": {**GOOD["x"], "shape": [3]}}, bytes(8)), r"x lies from 0 to 8, but it is F32 of shape \(3,\)"),
    (header({"x": {**GOOD["x"], "data_offsets": [4, 12]}}, bytes(12)), "x lies from 4 to 12, .* must begin at 0"),
    (header({**GOOD, "y": GOOD["x"]}, bytes(8)), "y lies from 0 to 8, .* must begin at 8"),
    (header(GOOD, bytes(7)), "it lacks 1 bytes of x"),
    (header(GOOD, bytes(9)), "1 bytes belong to no array"),
    (header({**GOOD, "__metadata__": {"a": 1}}, bytes(8)), "__metadata__ are not a dict of strings"),
    (header({**GOOD, "__metadata__": "a"}, bytes(8)), "__metadata__ are not a dict of strings")])
def test_a_file_that_is_not_whole_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        safetensors_file.read(data)
    with pytest.raises((SafetensorError, KeyError)):    # the library refuses it too
        library_load(data)


def test_a_dtype_that_the_format_lacks_is_refused_by_name():
    with pytest.raises(ValueError, match="x is complex128 but must be one of float64"):
        written({"x": np.ones(2, complex)})
