"""Random inputs and damaged files: short runs here, whole ones in `make test-all` and `make reliability`."""

import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import GENERATIONS, random_model_of

sys.path.insert(0, str(Path(__file__).parent))

import faults
import fuzz

import rwkv_np
from rwkv_np import sampling, wkv4
from rwkv_np.text import tokenizer

FORMS = [wkv4.recurrent, wkv4.all_pairs, wkv4.scan, wkv4.chunked]


@st.composite
def operands(draw, min_length=1):
    """w, u, k, v in float64, of any sizes that matter."""
    shape = (*draw(st.sampled_from([(), (2,)])), draw(st.integers(min_length, 12)), draw(st.integers(1, 4)))
    rates = st.sampled_from([0.0, 1e-6, 0.01, 0.5, 3.0, 50.0, 1e3])
    numbers = st.floats(-100, 100, width=64)
    w = draw(hnp.arrays(float, shape[-1], elements=rates))
    u = draw(hnp.arrays(float, shape[-1], elements=numbers))
    return w, u, draw(hnp.arrays(float, shape, elements=numbers)), draw(hnp.arrays(float, shape, elements=numbers))


def near(a, b, v, tolerance=1e-11):
    return np.abs(a - b).max() <= tolerance * max(np.abs(v).max(), 1e-300)


@settings(max_examples=60)
@given(operands())
def test_all_forms_are_one_function_and_an_average(inputs):
    w, u, k, v = inputs
    out, _ = wkv4.recurrent(*inputs)
    for form in FORMS:
        assert near(form(*inputs)[0], out, v)
    assert (out <= v.max() + 1e-9).all() and (out >= v.min() - 1e-9).all()


@settings(max_examples=60)
@given(operands(min_length=2), st.data())
def test_cut_anywhere_and_continued_by_any_form(inputs, data):
    w, u, k, v = inputs
    cut = data.draw(st.integers(1, k.shape[-2] - 1))
    one, other = data.draw(st.sampled_from(FORMS)), data.draw(st.sampled_from(FORMS))
    first, state = one(w, u, k[..., :cut, :], v[..., :cut, :])
    second, _ = other(w, u, k[..., cut:, :], v[..., cut:, :], state)
    assert near(np.concatenate([first, second], axis=-2), wkv4.recurrent(*inputs)[0], v)


@settings(max_examples=60)
@given(operands(min_length=2), st.data())
def test_a_later_input_never_changes_an_earlier_output(inputs, data):
    w, u, k, v = inputs
    t = data.draw(st.integers(1, k.shape[-2] - 1))
    k2, v2 = k.copy(), v.copy()
    k2[..., t:, :], v2[..., t:, :] = 77.0, -5.0
    for form in FORMS:
        assert near(form(w, u, k2, v2)[0][..., :t, :], form(w, u, k, v)[0][..., :t, :], np.append(v, 5.0))


@settings(max_examples=60)
@given(operands(), st.floats(-1e4, 1e4), st.floats(-50, 50))
def test_a_constant_on_all_keys_changes_nothing_and_values_scale_through(inputs, shift, factor):
    w, u, k, v = inputs
    for form in FORMS:
        assert near(form(w, u, k + shift, v)[0], form(w, u, k, v)[0], v, 1e-8)      # k + shift is rounded
        assert near(form(w, u, k, factor * v)[0], factor * form(w, u, k, v)[0], 50 * v)


@pytest.mark.parametrize("generation", GENERATIONS)
@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_the_model_is_causal_and_its_sequences_do_not_hear_each_other(generation, seed, length):
    rng = np.random.default_rng(seed)
    model = random_model_of(generation, seed=seed % 1000)
    tokens = rng.integers(17, size=(3, length))
    logits, state = model.forward(tokens)
    for row in range(3):
        alone, _ = model.forward(tokens[row])
        assert near(alone, logits[row], logits)
    cut = int(rng.integers(0, length + 1))
    first, middle = model.forward(tokens[:, :cut])
    second, end = model.forward(tokens[:, cut:], middle)
    assert near(np.concatenate([first, second], axis=1), logits, logits)
    if generation == 4:
        assert near(end.num * np.exp(end.log_scale - state.log_scale), state.num, state.num, 1e-9)
    else:
        assert near(end.wkv, state.wkv, state.wkv, 1e-9)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_two_threads_may_share_a_model(generation):
    model = random_model_of(generation)
    texts = [np.random.default_rng(n).integers(17, size=60) for n in range(16)]
    expected = [model.forward(t)[0] for t in texts]
    with ThreadPoolExecutor(2) as pool:
        for logits, alone in zip(pool.map(lambda t: model.forward(t)[0], texts), expected, strict=True):
            np.testing.assert_array_equal(logits, alone)


@settings(max_examples=60)
@given(hnp.arrays(float, st.integers(1, 30), elements=st.floats(-50, 50)), st.floats(0, 3), st.floats(0, 1),
       st.integers(0, 5))
def test_the_sampler_gives_probabilities_and_keeps_the_best(logits, temperature, top_p, top_k):
    p = sampling.probabilities(logits, temperature, top_p, top_k)
    assert abs(p.sum() - 1) < 1e-9 and (p >= 0).all()
    assert p[np.argmax(logits)] > 0
    if top_k:
        assert (p > 0).sum() <= top_k


@settings(max_examples=60)
@given(st.text(), st.binary())
def test_tokenizers_return_what_they_were_given(text, data):
    text = text.encode(errors="ignore").decode()
    assert tokenizer.Bytes().decode(tokenizer.Bytes().encode(text)) == text
    assert tokenizer.Bytes().decode_bytes(tokenizer.Bytes().encode(data)) == data
    world = tokenizer.World.from_text(fuzz.WORLD)
    assert world.decode_bytes(world.encode(data)) == data and world.decode(world.encode(text)) == text
    if text:
        characters = tokenizer.Characters(text)
        assert characters.decode(characters.encode(text)) == text


@pytest.mark.parametrize("generation", GENERATIONS)
@settings(max_examples=8)
@given(st.integers(0, 2**32), st.sampled_from([".pth", ".safetensors"]))
def test_a_checkpoint_holds_any_finite_numbers(tmp_path_factory, generation, seed, suffix):
    model = random_model_of(generation, seed=seed % 997, dtype=np.float32, n_layer=1)
    rng = np.random.default_rng(seed)
    for p in model.params.values():
        bits = rng.integers(0, 2**32, p.shape, dtype=np.uint32)
        bits[bits & 0x7F800000 == 0x7F800000] ^= 0x00800000                     # any bits but those of inf and nan
        p[...] = bits.view(np.float32)
    path = tmp_path_factory.mktemp("any") / f"m{suffix}"
    rwkv_np.save(model, path)
    again = rwkv_np.load(path)
    for name, p in model.params.items():
        np.testing.assert_array_equal(again.params[name].view(np.uint32), p.view(np.uint32))
    rwkv_np.save_state(model.initial_state()._replace(att_shift=model.params["emb.weight"][:1]), path.with_name("s"))
    state, _ = rwkv_np.load_state(path.with_name("s"))
    np.testing.assert_array_equal(state.att_shift.view(np.uint32), model.params["emb.weight"][:1].view(np.uint32))


# Files that are broken


KINDS = [".pth", ".safetensors", ".safetensors bytes", "training run", "adapter", "state", "vocabulary", "characters",
         "tokenizer.json", "documents", "config.json",
         *(f"RWKV-{generation} {kind}" for generation in (5, 6, 7) for kind in (".pth", ".safetensors", "state"))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.long)])
def test_broken_files_are_refused_and_cost_little(kind, count, tmp_path):
    data, suffix, reader = fuzz.samples(tmp_path)[kind]
    refused, read, slowest, most = fuzz.run(kind, data, suffix, reader, count, tmp_path)
    assert refused > count / 3
    assert slowest < 5
    assert most < 10 or most * len(data) < 1e6              # Python itself needs some


@pytest.mark.parametrize("kind", ["manifest.json", "vectors.safetensors", "results.safetensors"])
@pytest.mark.parametrize("count", [20, pytest.param(2_000, marks=pytest.mark.long)])
def test_broken_test_vectors_are_refused(kind, count, tmp_path):
    data, suffix, reader = fuzz.conformance_samples(tmp_path)[kind]
    refused, *_ = fuzz.run(kind, data, suffix, reader, count, tmp_path)
    assert refused > count / 3


def test_a_zip_bomb_and_entries_that_overlap_are_refused(tmp_path):
    import io
    import zipfile

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(10**7))
    (tmp_path / "bomb.pth").write_bytes(data.getvalue())
    with pytest.raises(rwkv_np.CheckpointError, match="compressed"):
        rwkv_np.load(tmp_path / "bomb.pth")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(1000))
        for n in range(1, 40):                               # the same bytes under many names
            info = zipfile.ZipInfo(f"a/data/{n}")
            original = archive.getinfo("a/data/0")
            info.header_offset, info.file_size, info.compress_size, info.CRC = (
                original.header_offset, original.file_size, original.compress_size, original.CRC)
            archive.filelist.append(info)
    (tmp_path / "overlap.pth").write_bytes(data.getvalue())
    with pytest.raises(rwkv_np.CheckpointError, match="does not lie where the archive says"):
        rwkv_np.load(tmp_path / "overlap.pth")


# Runs that are interrupted


@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.long)])
def test_a_full_disk_loses_no_more_than_the_steps_since_the_last_checkpoint(count, tmp_path):
    assert faults.failing_writes(tmp_path, count) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.long)])
def test_a_killed_training_leaves_files_that_load_and_go_on(count, tmp_path):
    assert faults.killed(tmp_path, count) == (count, 0, 0)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's count of memory")
@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("tokens", [4_000, pytest.param(10**6, marks=pytest.mark.long)])
def test_decoding_for_long_neither_grows_nor_diverges(tokens, generation):
    grown, finite = faults.soak(tokens, generation)
    assert grown < 2_000_000 and finite             # ten bytes a token would be ten million


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_prompt_ten_times_as_long_takes_no_more_memory(generation):
    model, peaks = random_model_of(generation, n_layer=1, dtype=np.float32), []
    for length in (2_048, 20_480):
        tokens = np.arange(length) % 17
        tracemalloc.start()
        model.forward(tokens, last_only=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 8 * 20_480       # the tokens themselves may be copied
