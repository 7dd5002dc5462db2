"""The page "RWKV live" in a browser: what its tests do with it, and read off it."""

import re

import numpy as np
from reference_implementations.random_params import random_params

from rwkv_np import RWKV7
from rwkv_np.text.plain import Bytes

READY = "() => window.rwkvLive && rwkvLive.page.readyAfter && !rwkvLive.page.running"
IDLE = "() => !rwkvLive.page.running"


def random_seven(seed=0):
    """Return a small RWKV-7 over bytes, random everywhere, with the sizes of the one that is to be included."""
    sizes = dict(vocab_size=256, d_model=128, n_layer=4, d_ffn=512, head_size=32)
    model = RWKV7(random_params("7", seed=seed, ranks=dict(w=32, a=32, v=30, g=33), **sizes))
    model.tokenizer = Bytes()
    return model


def choose(tab, generation):
    """Let the page load a model."""
    tab.locator("select[name=model]").select_option(label=f"RWKV-{generation}")
    tab.wait_for_function(f"() => rwkvLive.page.model.generation === {generation} && !rwkvLive.page.running")


def type_text(tab, text):
    tab.locator(".rwkv-live textarea").fill(text)
    tab.wait_for_function(IDLE)


def press(tab, name):
    tab.locator(f".rwkv-live button[name={name}]").click()
    tab.wait_for_function(IDLE)


def current(tab):
    """Return what the page holds: logits, and the arrays of the state stacked over the layers, as Python names them."""
    logits, layers = tab.evaluate("""() => {
      const { logits, state } = rwkvLive.page.sessions[rwkvLive.page.active].current;
      const list = (layer) => Object.entries(layer).map(([name, array]) => [name, [...array]]);
      return [logits && [...logits], state.map(list)]; }""")
    layers = [dict(layer) for layer in layers]
    state = {re.sub("[A-Z]", lambda m: "_" + m[0].lower(), name): np.array([layer[name] for layer in layers], float)
             for name in layers[0]}
    return logits and np.array(logits), state


def assert_same_state(state, expected):
    for name, array in expected._asdict().items():
        np.testing.assert_allclose(state[name], array.reshape(state[name].shape), rtol=1e-9, atol=1e-9, err_msg=name)


def drawn(tab):
    """Return the picture: signed opacity of each cell in units of the limit, nan where it is grey; and the limit."""
    width, pixels, limit = tab.evaluate("""() => { const canvas = document.querySelector(".rwkv-live canvas");
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
      return [canvas.width, [...data], rwkvLive.page.drawn.limit]; }""")
    red, green, blue, alpha = np.array(pixels, float).reshape(-1, width, 4).transpose(2, 0, 1)
    grey = (alpha > 40) & (abs(red - blue) < 10) & (abs(red - green) < 10)
    return np.where(grey, np.nan, np.sign(red - blue) * alpha / 255), limit
