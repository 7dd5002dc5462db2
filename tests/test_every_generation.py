"""Every generation can do whatever the others can, from one file to the next: convert, eval, generate, fine-tune.

Each room's own tests cover the parts: files (shapes, round trips), training (resumed bit for bit, one and two
workers), study (trace, cascade, cost).
"""

import numpy as np
import pytest
from checkpoint_files import assert_same_model
from random_models import GENERATIONS

import rwkv_np
from rwkv_np.cli.main import main
from rwkv_np.language_model import LanguageModel
from rwkv_np.study import cascade, trace
from rwkv_np.text.tokenizer import Bytes
from rwkv_np.training import Run, TrainConfig, train

TEXT = "The quick brown fox jumps over the lazy dog. " * 30
SHORT = ["--context-length", "8", "--batch-size", "2", "--workers", "1"]

pytestmark = pytest.mark.filterwarnings("ignore::tqdm.TqdmMonitorWarning")


@pytest.fixture(params=GENERATIONS, ids=lambda generation: f"RWKV-{generation}")
def model(request):
    """A model of bytes, random everywhere, float32."""
    options = {} if request.param == 4 else {"head_size": 4}
    model = LanguageModel.classes[request.param].init(256, 8, 2, **options)
    rng = np.random.default_rng(1)
    for array in model.params.values():
        array += rng.normal(0, 0.3, array.shape).astype(np.float32)
    model.tokenizer = Bytes()
    if request.param > 4:
        model.metadata["group_norm_epsilon"] = 1e-4             # not the default: it has to travel too
    return model


@pytest.fixture
def path(model, tmp_path):
    rwkv_np.save(model, tmp_path / "m.safetensors")
    (tmp_path / "t.txt").write_text(TEXT)
    return str(tmp_path / "m.safetensors")


def out_of(capsys, *arguments):
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_conversion_there_and_back_changes_nothing_that_eval_and_info_say(model, path, tmp_path, capsys):
    """But for zeros in place of what the first block of an RWKV-7 does not have, which `.pth` files hold."""
    def said_of(path):
        return [out_of(capsys, "eval", "--model", path, "--text", tmp_path / "t.txt"),
                out_of(capsys, "info", "--model", path).split("half-lives")[1]]

    said = said_of(path)
    out_of(capsys, "convert", "--model", path, tmp_path / "n.pth")
    out_of(capsys, "convert", "--model", tmp_path / "n.pth", tmp_path / "back.safetensors")
    for name in ("n.pth", "back.safetensors"):
        again = rwkv_np.load(tmp_path / name)
        for added in set(again.params) - set(model.params):
            assert model.generation == 7 and added[:-1] == "blocks.0.att.v" and not again.params.pop(added).any()
        assert_same_model(again, model)
        assert again.metadata.get("group_norm_epsilon") == model.metadata.get("group_norm_epsilon")
        assert said_of(tmp_path / name) == said
    for dtype in ("float16", "bfloat16"):
        out_of(capsys, "convert", "--model", path, tmp_path / f"{dtype}.pth", "--dtype", dtype)
        logits, _ = rwkv_np.load(tmp_path / f"{dtype}.pth").forward([1, 2, 3])
        expected, _ = model.forward([1, 2, 3])
        assert 0 < np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_a_text_goes_on_from_a_saved_state_as_if_nothing_had_happened(model, path, tmp_path, capsys):
    def write(*arguments):
        return out_of(capsys, "generate", "--model", path, "--temperature", "0", *arguments).removesuffix("\n")

    whole = write("--prompt", "The fox", "--max-new-tokens", "24")
    begin = write("--prompt", "The fox", "--max-new-tokens", "9", "--save-state", tmp_path / "s.safetensors")
    assert begin + write("--load-state", tmp_path / "s.safetensors", "--max-new-tokens", "15") == whole

    tokens = [*b"The fox"]
    expected = list(rwkv_np.generate(model, tokens, max_new_tokens=24, temperature=0))
    first = rwkv_np.generate(model, tokens, max_new_tokens=9, temperature=0)
    begin = list(first)
    rwkv_np.save_state(first.state, tmp_path / "t.safetensors", first.last_token)
    state, token = rwkv_np.load_state(tmp_path / "t.safetensors")
    assert begin + list(rwkv_np.generate(model, [token], max_new_tokens=15, temperature=0, state=state)) == expected


def test_study_continues_from_a_state_that_was_on_disk(model, path, tmp_path):
    model = rwkv_np.load(path, dtype=np.float64)
    tokens = np.arange(40, 52)
    _, state = model.forward(tokens[:5])
    rwkv_np.save_state(state, tmp_path / "s.safetensors")
    state, _ = rwkv_np.load_state(tmp_path / "s.safetensors")
    expected, end = model.forward(tokens[5:], state)
    logits, cascaded = cascade.forward(model, tokens[5:], state)
    assert np.abs(logits - expected).max() < 1e-11 * np.abs(expected).max()
    traced = trace.states(model, tokens[5:], state)
    for values, last, other in zip(traced, end[2:], cascaded[2:], strict=True):
        np.testing.assert_allclose(values[-1], last, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(other, last, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_fine_tuning_starts_from_either_file_and_learns_alike(model, suffix, tmp_path, capsys):
    """From the model in memory and from its file: the same losses, bit for bit; and it learns."""
    rwkv_np.save(model, tmp_path / f"m{suffix}")
    (tmp_path / "t.txt").write_text(TEXT)
    out_of(capsys, "train", "--text", tmp_path / "t.txt", "--from", tmp_path / f"m{suffix}", "--out", tmp_path / "out",
           "--max-steps", "30", *SHORT)
    run = Run.load(tmp_path / "out" / "training.safetensors")
    assert run.model.generation == model.generation and sum(run.losses[-6:]) < sum(run.losses[:6])
    assert run.model.metadata.get("group_norm_epsilon") == model.metadata.get("group_norm_epsilon")
    tokens = np.frombuffer(TEXT.encode(), np.uint8).astype(int)
    settings = TrainConfig(max_steps=2, batch_size=2, context_length=8)
    runs = [train(Run.start(start, settings), tokens, tokens[:50], progress=False)
            for start in (model, rwkv_np.load(tmp_path / f"m{suffix}"))]
    assert runs[0].losses == runs[1].losses
