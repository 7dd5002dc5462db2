"""bfloat16 in NumPy against `ml_dtypes`: every bit pattern, and the floats around every tie."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rwkv_np.files.dtypes import BFLOAT16, convert, from_bfloat16, to_bfloat16

ALL = np.arange(2**16, dtype=np.uint16)


def test_all_bfloat16_are_read_exactly():
    expected = ALL.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(from_bfloat16(ALL.view(BFLOAT16)), expected)
    np.testing.assert_array_equal(from_bfloat16(ALL.reshape(256, 256).T.view(BFLOAT16)), expected.reshape(256, 256).T)


def test_all_bfloat16_and_all_ties_between_them_are_rounded_as_by_ml_dtypes():
    bits = ALL.astype(np.uint32) << 16
    for offset in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        single = (bits + np.uint32(offset)).view(np.float32)
        with np.errstate(invalid="ignore"):
            expected = single.astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(from_bfloat16(to_bfloat16(single)), expected)


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, min_side=0), elements=st.floats(width=64)))
def test_float64_is_rounded_by_way_of_float32(array):
    with np.errstate(over="ignore", invalid="ignore"):
        expected = array.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)
    rounded = to_bfloat16(array)
    assert rounded.shape == array.shape
    np.testing.assert_array_equal(from_bfloat16(rounded), expected)


@pytest.mark.parametrize("dtype, largest", [("float16", 65504), ("bfloat16", 3.3895313892515355e38),
                                            ("float32", 3.4028234663852886e38)])
def test_what_overflows_is_refused_and_what_is_infinite_stays(dtype, largest):
    convert(np.array([largest]), dtype)
    with pytest.raises(ValueError, match=f"overflows in {dtype}"):
        convert(np.array([1.0, 1.01 * largest]), dtype)
    assert np.isinf(from_bfloat16(convert(np.array([np.inf]), dtype))).all()
