"""RWKV-4 in other implementations: Hugging Face's `transformers` on PyTorch, and the official runtime `rwkv`.

Where attention is not as wide as the model, both fail as soon as a state is involved (rwkv 0.8.32, transformers
5.23.0), so such a model is compared without one.

    pip install -r requirements.txt -r benchmarks/requirements.txt peft
    python tests/reference_implementations/make_fixtures.py compare     print how far this project is from them
    python tests/reference_implementations/make_fixtures.py fixtures    write the folder fixtures/ anew

Besides this folder and the benchmarks, nothing in the project imports PyTorch.
"""

import argparse
import datetime
import os
import shutil
import sys
import tempfile
import warnings
from collections import OrderedDict
from pathlib import Path

os.environ |= {"RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np
import torch
from random_models import random_model
from safetensors.numpy import save_file
from transformers import AutoTokenizer, RwkvConfig, RwkvForCausalLM
from transformers.models.rwkv import modeling_rwkv
from transformers.utils import logging

import rwkv_np
from rwkv_np.files import hugging_face
from rwkv_np.text import tokenizer

logging.disable_progress_bar()
FIXTURES = Path(__file__).parent / "fixtures"
SHAPES = {                                                      # name -> sizes; random decays, gains, everything
    "square": dict(vocab_size=17, d_model=8, n_layer=3, d_ffn=32, d_att=8, seed=1),
    "lean": dict(vocab_size=11, d_model=12, n_layer=2, d_ffn=8, d_att=12, seed=2),
    "wide": dict(vocab_size=11, d_model=8, n_layer=2, d_ffn=20, d_att=16, seed=3),
}


def official_state_dict(model):
    """Return the model's arrays as PyTorch tensors, shaped as the official trainer has them."""
    return OrderedDict((name, torch.tensor(a.reshape(1, 1, -1) if "time_mix" in name else a))
                       for name, a in model.params.items())


def transformers_model(model, dtype):
    config = RwkvConfig(vocab_size=model.vocab_size, hidden_size=model.d_model, num_hidden_layers=model.n_layer,
                        attention_hidden_size=model.d_att, intermediate_size=model.d_ffn, rescale_every=0,
                        bos_token_id=None, eos_token_id=None)
    transformer = RwkvForCausalLM(config).to(dtype)
    transformer.load_state_dict({hugging_face.hugging_face_name(name): a
                                 for name, a in official_state_dict(model).items()})
    return transformer.eval()


def float64_operator(time_decay, time_first, key, value, state=None, return_state=False):
    """Compute the CPU operator of `transformers` with one difference: nothing in it is rounded to float32."""
    num, den, top = (torch.zeros_like(key[:, 0]), torch.zeros_like(key[:, 0]),
                     torch.full_like(key[:, 0], -1e38)) if state is None else state
    outputs = []
    for t in range(key.shape[1]):
        k, v = key[:, t], value[:, t]
        scale = torch.maximum(top, k + time_first)
        a, b = torch.exp(top - scale), torch.exp(k + time_first - scale)
        outputs.append((a * num + b * v) / (a * den + b))
        scale = torch.maximum(top - torch.exp(time_decay), k)
        a, b = torch.exp(top - torch.exp(time_decay) - scale), torch.exp(k - scale)
        num, den, top = a * num + b * v, a * den + b, scale
    return torch.stack(outputs, 1), [num, den, top] if return_state or state is not None else None


def by_transformers(model, tokens, dtype, exact=False):
    """Return logits (B, T, V), loss and gradients of predicting each next token, by `transformers`.

    As shipped, or with `exact` the operator alone replaced, and the loss not taken in float32.
    """
    transformer = transformers_model(model, dtype)
    shipped = modeling_rwkv.rwkv_linear_attention_cpu
    if exact:
        modeling_rwkv.rwkv_linear_attention_cpu = float64_operator
    try:
        ids = torch.tensor(tokens)
        result = transformer(ids, labels=ids, use_cache=False)
        loss = result.loss if not exact else torch.nn.functional.cross_entropy(
            result.logits[:, :-1].reshape(-1, model.vocab_size), ids[:, 1:].reshape(-1))
        loss.backward()
    finally:
        modeling_rwkv.rwkv_linear_attention_cpu = shipped
    grads = {hugging_face.official_name(name): p.grad.numpy().reshape(-1) if "time_mix" in name else p.grad.numpy()
             for name, p in transformer.named_parameters()}
    return result.logits.detach().numpy(), loss.item(), grads


def state_by_transformers(model, tokens):
    """Return the state of `transformers` after the tokens as `RWKV4.State`."""
    with torch.no_grad():
        state = transformers_model(model, torch.float32)(torch.tensor(tokens), use_cache=True).state
    ffn_shift, att_shift, num, den, log_scale = (s.permute(2, 0, 1).numpy() for s in state)
    return rwkv_np.RWKV4.State(att_shift, ffn_shift, *(s.astype(np.float64) for s in (num, den, log_scale)))


def by_official(path, tokens):
    """Return logits (T, V) and state after one sequence, by the official runtime in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.stdout, stdout = open(os.devnull, "w"), sys.stdout             # it prints every array it reads
        try:
            from rwkv.model import RWKV
            runtime = RWKV(model=str(path).removesuffix(".pth"), strategy="cpu fp32")
        finally:
            sys.stdout = stdout
    logits, state = runtime.forward([int(t) for t in tokens], None, full_output=True)
    layers = [[s.numpy() for s in state[5 * n:5 * n + 5]] for n in range(len(state) // 5)]
    att_shift, num, den, log_scale, ffn_shift = (np.stack(s) for s in zip(*layers, strict=True))
    return logits.numpy(), rwkv_np.RWKV4.State(att_shift, ffn_shift,
                                         *(s.astype(np.float64) for s in (num, den, log_scale)))


def read_by_torch(path):
    return {name: a.float().numpy() for name, a in torch.load(path, map_location="cpu", weights_only=True).items()}


def tokens_for(model, batch=2, length=12):
    return np.random.default_rng(0).integers(model.vocab_size, size=(batch, length))


def fixtures():
    FIXTURES.mkdir(exist_ok=True)
    for name, sizes in SHAPES.items():
        model = random_model(**sizes, dtype=np.float32)
        tensors = official_state_dict(model)
        torch.save(tensors, FIXTURES / f"{name}.pth")
        tokens = tokens_for(model)
        expected = {"tokens": tokens}
        expected["transformers float32/logits"] = by_transformers(model, tokens, torch.float32)[0]
        for kind, exact in (("as shipped", False), ("exact", True)):
            logits, loss, grads = by_transformers(model, tokens, torch.float64, exact)
            expected |= {f"transformers {kind}/logits": logits, f"transformers {kind}/loss": np.array(loss)}
            expected |= {f"transformers {kind}/grads/{n}": g if exact else g.astype(np.float32)
                         for n, g in grads.items()}
        if model.d_att == model.d_model:
            logits, states = zip(*(by_official(FIXTURES / f"{name}.pth", row) for row in tokens), strict=True)
            expected["official/logits"] = np.stack(logits)
            states = {"official": rwkv_np.RWKV4.State(*(np.stack(s, 1) for s in zip(*states, strict=True))),
                      "transformers float32": state_by_transformers(model, tokens)}
            expected |= {f"{who}/state/{field}": a for who, state in states.items()
                         for field, a in state._asdict().items()}
        save_file({n: np.ascontiguousarray(a) for n, a in expected.items()}, FIXTURES / f"{name}.expected.safetensors")
    file_fixtures()


def file_fixtures():
    """Write files as other programs do, all holding the model "square", some of them rounded."""
    model = random_model(**SHAPES["square"], dtype=np.float32)
    tensors = official_state_dict(model)
    for dtype in (torch.float16, torch.bfloat16):
        torch.save({n: a.to(dtype) for n, a in tensors.items()}, FIXTURES / f"square.{str(dtype)[6:]}.pth")
    # Transposed in memory, two views of one storage, a Parameter, a state_dict with metadata.
    strided = OrderedDict((n, a.T.contiguous().T if a.ndim == 2 else a) for n, a in tensors.items())
    both = torch.stack([tensors["emb.weight"], tensors["head.weight"]])
    strided["emb.weight"], strided["head.weight"] = both[0], torch.nn.Parameter(both[1])
    strided._metadata = OrderedDict([("", {"version": 1})])
    torch.save(strided, FIXTURES / "square.strided.pth")
    torch.save(tensors, FIXTURES / "square.old.pth", _use_new_zipfile_serialization=False)
    transformer = transformers_model(model, torch.float32)
    transformer.save_pretrained(FIXTURES / "hf")
    transformer.save_pretrained(FIXTURES / "hf-in-parts", max_shard_size="6KB")
    for name in ("hf", "hf-in-parts"):
        (FIXTURES / name / "generation_config.json").unlink()
    wrapped_fixtures(tensors)
    characters_fixture()
    lora_fixture(model)
    # Files of this project, once PyTorch has read them: the test writes them again and compares the bytes.
    model.tokenizer, model.metadata = tokenizer.Characters("abcdefghijklmnopq"), {"corpus": "none"}
    for dtype in ("float32", "float16", "bfloat16"):
        path = FIXTURES / f"written.{dtype}.pth"
        rwkv_np.save(model, path, dtype)
        assert_same(read_by_torch(path), rwkv_np.load(path))


def wrapped_fixtures(tensors):
    """Write checkpoints of training runs: weights beside the state of an optimizer and the usual other values."""
    layer = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    others = {"step": 7, "loss": np.float32(3.5), "args": argparse.Namespace(n_layer=3), "size": torch.Size([1, 2]),
              "dtype": torch.float16, "device": torch.device("cpu"), "date": datetime.datetime(2023, 5, 1),
              "path": Path("run"), "seen": {1, 2}, "random": np.arange(3), "best": float("inf")}
    torch.save({"model": tensors, "optimizer": optimizer.state_dict(), **others}, FIXTURES / "square.training-run.pth")
    prefixed = {f"_forward_module.module.{name}": a for name, a in tensors.items()}
    torch.save({"epoch": 3, "state_dict": prefixed, "hyper_parameters": argparse.Namespace(lr=1e-4)},
               FIXTURES / "square.lightning.ckpt")
    torch.save(optimizer.state_dict(), FIXTURES / "optimizer.pth")


def characters_fixture():
    """Write the tokenizer of a character model as `transformers` saves it again."""
    model = random_model(vocab_size=4, dtype=np.float32)
    model.tokenizer = tokenizer.Characters("\nab🙂")
    with tempfile.TemporaryDirectory() as folder:
        rwkv_np.save_hf(model, Path(folder) / "first")
        AutoTokenizer.from_pretrained(Path(folder) / "first").save_pretrained(Path(folder) / "second")
        shutil.copy(Path(folder) / "second" / "tokenizer.json", FIXTURES / "characters.tokenizer.json")


def lora_fixture(model):
    """Write an adapter as PEFT does, the arrays that PEFT merges it into."""
    import peft

    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, lora_alpha=8, target_modules=["key", "receptance", "output"],
                             modules_to_save=["head"], alpha_pattern={"output": 3})
    wrapped = peft.get_peft_model(transformers_model(model, torch.float32), config)
    for _, p in wrapped.named_parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.3)
    wrapped.save_pretrained(FIXTURES / "lora")
    (FIXTURES / "lora" / "README.md").unlink()
    merged = wrapped.merge_and_unload().state_dict()
    merged = {hugging_face.official_name(name): a.numpy() for name, a in merged.items()}
    changed = ("key.weight", "receptance.weight", "output.weight", "head.weight")
    save_file({name: np.ascontiguousarray(a) for name, a in merged.items() if name.endswith(changed)},
              FIXTURES / "lora.expected.safetensors")


def assert_same(tensors, model):
    """Assert that tensors read by PyTorch have the official names and shapes, and the model's numbers."""
    want = official_state_dict(model)
    assert list(tensors) == list(want)
    for name, a in tensors.items():
        assert a.shape == want[name].shape, name
        np.testing.assert_array_equal(a, want[name].numpy(), err_msg=name)


def error(actual, expected):
    """Return the largest difference, relative to the largest number."""
    return np.abs(actual - expected).max() / np.abs(expected).max()


def state_error(actual, expected):
    """Return the same for states, the sums of WKV brought to one scale."""
    factor = np.exp(expected.log_scale - actual.log_scale)
    return max(error(actual.att_shift, expected.att_shift), error(actual.ffn_shift, expected.ffn_shift),
               error(actual.num, expected.num * factor), error(actual.den, expected.den * factor))


def compare():
    """Print how far this project is from them, for fresh random models, some of them larger than the fixtures."""
    shapes = SHAPES | {"128 x 4": dict(vocab_size=256, d_model=128, n_layer=4, d_ffn=512, d_att=128, seed=4)}
    print(f"torch {torch.__version__}. Errors relative to the largest |logit|, |gradient| of the array, |state|.\n")
    columns = ("logits, transformers float32", "logits, rwkv float32", "state, rwkv", "state, transformers",
               "loss, transformers double", "its gradients", "loss, its operator exact", "its gradients")
    rows = {column: [] for column in enumerate(columns)}
    for sizes in shapes.values():
        model = random_model(**sizes, dtype=np.float32)
        double = model.astype(np.float64)
        tokens = tokens_for(model, 2, 40)
        values = [error(model.forward(tokens)[0], by_transformers(model, tokens, torch.float32)[0])]
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("pth", "safetensors"):
                rwkv_np.save(model, Path(folder) / f"m.{kind}")
            assert_same(read_by_torch(Path(folder) / "m.pth"), model)
            rwkv_np.save_hf(model, Path(folder) / "hf")
            transformer = RwkvForCausalLM.from_pretrained(Path(folder) / "hf")
            for name, a in transformers_model(model, torch.float32).state_dict().items():
                assert torch.equal(transformer.state_dict()[name], a), name
            if model.d_att == model.d_model:
                logits, state = model.forward(tokens[0])
                expected, expected_state = by_official(Path(folder) / "m.pth", tokens[0])
                values += [error(logits, expected), state_error(state, expected_state),
                           state_error(model.forward(tokens)[1], state_by_transformers(model, tokens))]
            else:
                values += [None] * 3
        for exact in (False, True):
            _, expected, expected_grads = by_transformers(model, tokens, torch.float64, exact)
            loss, grads = double.loss_and_grads(tokens[:, :-1], tokens[:, 1:])
            values += [abs(loss - expected) / expected, max(error(grads[n], expected_grads[n]) for n in grads)]
        for column, value in zip(rows, values, strict=True):
            rows[column].append(value)
    print(f"{'':<34}" + "".join(f"{name:>12}" for name in shapes))
    for (_, column), values in rows.items():
        print(f"{column:<34}" + "".join(f"{'-' if v is None else f'{v:.1e}':>12}" for v in values))
    print("\nThe .pth read by torch.load(weights_only=True), the folder by from_pretrained: every number the same.")


if __name__ == "__main__":
    if sys.argv[1:] not in (["compare"], ["fixtures"]):
        sys.exit(__doc__)
    {"compare": compare, "fixtures": fixtures}[sys.argv[1]]()
