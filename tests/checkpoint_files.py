"""Files for tests of readers: small models, archives and pickles made by hand."""

import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "reference_implementations" / "fixtures"
SQUARE = dict(vocab_size=17, d_model=8, n_layer=3, d_ffn=32, d_att=8, seed=1)      # the model of most fixtures


def assert_same_model(model, expected, **tolerance):
    assert list(expected.params) == sorted(model.params, key=list(expected.params).index)
    for name, array in expected.params.items():
        np.testing.assert_allclose(model.params[name], array, err_msg=name, **(tolerance or {"rtol": 0, "atol": 0}))


def write_pth(path, program, entries=(("byteorder", b"little"), ("version", b"3\n")), compression=zipfile.ZIP_STORED):
    """Write an archive like PyTorch's with any pickle and any entries."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in (("data.pkl", program), *entries):
            archive.writestr(f"archive/{name}", data)


def tensor_pickle(shape="K\x02K\x03\x86", strides="K\x03K\x01\x86", offset="K\x00", storage="FloatStorage",
                  count="K\x06"):
    """Return the pickle of {"x": one tensor}; its shape and so on as instructions."""
    return (b"\x80\x02}(X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
            + f"{storage}\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu{count}tQ{offset}{shape}{strides}".encode("latin-1")
            + b"\x89ccollections\nOrderedDict\n)RtRu.")
