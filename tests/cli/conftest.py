"""Shared by the tests of the command line: small files, made once."""

import subprocess
import sys
from pathlib import Path

import pytest
from random_models import random_model

from rwkv_np import save
from rwkv_np.text.tokenizer import Characters

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def character_model(tmp_path_factory):
    """A random model of the characters a to o, which knows neither blank nor new line."""
    path = tmp_path_factory.mktemp("models") / "it's.safetensors"       # a name that a shell must have quoted
    tokenizer = Characters("abcdefghijklmno")
    model = random_model(vocab_size=tokenizer.vocab_size, dtype="float32")
    model.tokenizer = tokenizer
    save(model, path)
    return str(path)


@pytest.fixture
def program():
    """Run the program in a process of its own; returns exit code, output and messages."""
    def run(*arguments, input=b"", env=None, **options):
        done = subprocess.run([sys.executable, "-m", "rwkv_np", *map(str, arguments)], cwd=ROOT, input=input,
                              capture_output=True, env=env, timeout=120, **options)
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")

    return run
