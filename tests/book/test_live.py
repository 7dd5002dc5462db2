"""RWKV live, the page in which a model reads along, in a browser: the model in JavaScript against the one in Python.

Requires Chromium or Chrome; skipped where there is none.
"""

import base64
import functools
import http.server
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from book.live_page import IDLE, READY, assert_same_state, choose, current, drawn, press, random_seven, type_text

import rwkv_np
from rwkv_np import RWKV5, RWKV7
from rwkv_np.files.bundled import BUNDLED_MODEL
from rwkv_np.sampling import generate, probabilities
from rwkv_np.study import trace

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "LICENSE").read_bytes()[:2000]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("generation", [4, 7])
def test_logits_and_state_over_2000_bytes(tab, files, generation):
    choose(tab, generation)
    logits = np.frombuffer(base64.b64decode(tab.evaluate("""(bytes) => {            // base64: lists take half a minute
      const { page, initialState, step } = rwkvLive, text = [];
      let state = initialState(page.model), logits;
      for (const byte of bytes) {
        ({ logits, state } = step(page.model, byte, state));
        text.push(String.fromCharCode(...new Uint8Array(logits.buffer)));
      }
      return btoa(text.join(""));
    }""", list(TEXT)))).reshape(len(TEXT), 256)
    single = rwkv_np.load(files[generation])
    state = None
    for n, byte in enumerate(TEXT):
        expected, state = single.step(byte, state)
        assert abs(logits[n] - expected).max() < 1e-4 * abs(expected).max(), n
    exact, state = rwkv_np.load(files[generation], np.float64).forward(list(TEXT))
    np.testing.assert_allclose(logits, exact, rtol=0, atol=1e-10 * abs(exact).max())
    type_text(tab, TEXT.decode())
    shown, memory = current(tab)
    np.testing.assert_allclose(shown, exact[-1], rtol=0, atol=1e-10 * abs(exact).max())
    assert_same_state(memory, state)


@pytest.mark.parametrize("generation", [4, 7])
def test_it_writes_the_same_greedy_text_as_python(tab, files, generation):
    choose(tab, generation)
    type_text(tab, "The value of é ")
    tab.locator("input[name=temperature]").fill("0")
    press(tab, "write")
    written = tab.evaluate("rwkvLive.page.sessions[0].bytes")
    prompt = list("The value of é ".encode())
    model = rwkv_np.load(files[generation], np.float64)
    assert written == prompt + list(generate(model, prompt, 300, temperature=0))


def test_it_samples_as_python_does(tab):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 12)
    counts = tab.evaluate("""(logits) => {
      const counts = logits.map(() => 0), draw = (u) => rwkvLive.sample(Float64Array.from(logits), 0.7, 0.9, () => u);
      for (let i = 0; i < 40000; i++) counts[draw((i + 0.5) / 40000)]++;
      return counts; }""", logits.tolist())
    np.testing.assert_allclose(np.array(counts) / 40000, probabilities(logits, 0.7, 0.9), atol=1e-4)


def test_the_picture_is_the_state_of_rwkv_4(tab, files):
    type_text(tab, TEXT[:300].decode())
    model = rwkv_np.load(files[4], np.float64)
    average, lives = trace.states(model, list(TEXT[:300])).average, trace.half_lives(model)
    for layer in range(4):
        tab.locator("select[name=layer]").select_option(str(layer))
        seen, limit = drawn(tab)
        rows = average[-seen.shape[1]:, layer, np.argsort(-lives[layer], kind="stable")].T       # (A, columns)
        assert limit == pytest.approx(np.quantile(abs(rows), 0.99, method="lower"), rel=1e-3)
        assert abs(seen - np.clip(rows / limit, -1, 1)).max() < 0.51 / 255 + 1e-6
        letters = tab.locator(".letters span").all_inner_texts()
        assert "".join(letters) == TEXT[300 - seen.shape[1]:300].decode().replace(" ", "␣").replace("\n", "⏎")


def test_the_picture_is_the_state_of_rwkv_7(tab, files):
    choose(tab, 7)
    type_text(tab, TEXT[:50].decode())
    wkv = trace.states(rwkv_np.load(files[7], np.float64), list(TEXT[:50])).wkv[-1]              # (L, H, N, N)
    for layer in range(4):
        tab.locator("select[name=layer]").select_option(str(layer))
        seen, limit = drawn(tab)
        for head in range(4):
            matrix = np.clip(wkv[layer, head] / limit, -1, 1)
            assert abs(seen[:, 33 * head:33 * head + 32] - matrix).max() < 0.51 / 255 + 1e-6
    assert tab.locator(".letters span").all_inner_texts() == ["head 0", "head 1", "head 2", "head 3"]
    tab.set_viewport_size({"width": 390, "height": 844})
    type_text(tab, TEXT[:51].decode())
    assert drawn(tab)[0].shape == (65, 65)                          # two rows of heads
    assert tab.locator(".letters span").all_inner_texts() == ["heads 0, 2", "heads 1, 3"]


def assert_becomes(tab, read, expected):
    """Assert that what is read off the page is `expected` within ten seconds: the page is drawn after it has read."""
    for _ in range(200):
        if read() == expected:
            return
        tab.wait_for_timeout(50)
    assert read() == expected


def test_what_it_expects_is_the_softmax(tab, files):
    type_text(tab, "The value of ")
    logits, _ = rwkv_np.load(files[4], np.float64).forward(list(b"The value of "), last_only=True)
    p = probabilities(logits)
    best = np.argsort(-p)[:8]
    assert_becomes(tab, tab.locator(".next .byte").all_inner_texts,
                   [{32: "␣", 10: "⏎"}.get(int(b), chr(b)) for b in best])
    assert_becomes(tab, tab.locator(".next .share").all_inner_texts,
                   [f"{100 * p[b]:.1f}%" if p[b] >= 5e-4 else "< 0.1%" for b in best])
    tab.locator(".next button").first.click()
    assert_becomes(tab, tab.locator(".rwkv-live textarea").input_value, "The value of " + chr(best[0]))


@pytest.mark.parametrize("generation", [4, 7])
def test_by_hand(tab, files, generation):
    """Clear a layer, freeze a channel, swap two states, step back in time: each against the same done in Python."""
    choose(tab, generation)
    model = rwkv_np.load(files[generation], np.float64)
    first, then = list(b"Return the "), list(b"value")

    def changed(state, start=None, layer=2):
        """Return a copy of a state in which one layer is as in `start`."""
        copies = type(state)(*(a.copy() for a in state))
        for array, other in zip(copies, start or model.initial_state(), strict=True):
            array[layer] = other[layer]
        return copies

    type_text(tab, bytes(first).decode())
    _, state = model.forward(first)
    tab.locator("select[name=layer]").select_option("2")
    press(tab, "clear")
    assert_same_state(current(tab)[1], changed(state))
    type_text(tab, bytes(first + then).decode())
    assert_same_state(current(tab)[1], model.forward(then, changed(state))[1])

    for n in range(1, 4):                                       # back, with the cleared layer in the past
        press(tab, "back")
        assert_same_state(current(tab)[1], model.forward(then[:-n], changed(state))[1])
    press(tab, "forward")
    assert_same_state(current(tab)[1], model.forward(then[:-2], changed(state))[1])
    press(tab, "again")
    assert_same_state(current(tab)[1], model.forward(first + then)[1])

    tab.locator("input[name=channel]").fill("7")                # freeze
    channel = int(re.search(r"hannel (\d+)", tab.locator(".channel output").inner_text())[1])
    before = model.forward(first + then)[1]
    press(tab, "freeze")
    tab.locator(".rwkv-live textarea").press("End")
    tab.locator(".rwkv-live textarea").press_sequentially("xyz")
    tab.wait_for_function(IDLE)
    after = before
    for byte in b"xyz":
        after = model.step(byte, after)[1]
        for name in ("num", "den", "log_scale") if generation == 4 else ("wkv",):
            rows, old = (getattr(s, name)[2].reshape(128, -1) for s in (after, before))
            rows[channel] = old[channel]
    assert_same_state(current(tab)[1], after)
    press(tab, "again")

    (a, b) = (tab.evaluate(f"rwkvLive.page.sessions[{n}].bytes") for n in (0, 1))
    press(tab, "swap")
    assert_same_state(current(tab)[1], model.forward(b)[1])
    tab.locator("input[name=text][value='1']").check()
    assert tab.locator(".rwkv-live textarea").input_value() == bytes(b).decode()
    tab.locator(".rwkv-live textarea").press("Control+End")
    tab.locator(".rwkv-live textarea").press_sequentially("!")
    tab.wait_for_function(IDLE)
    assert_same_state(current(tab)[1], model.forward(a + [ord("!")])[1])


def test_a_text_that_is_edited_in_its_middle_is_read_from_there(tab, files):
    model = rwkv_np.load(files[4], np.float64)
    long = TEXT[:600].decode()
    for text in ("One two three", "One too three", "One", "", "Naïve 漢字 🙂", long, "x" + long[:-1]):
        type_text(tab, text)
        logits, state = current(tab)
        if text:
            assert_same_state(state, model.forward(list(text.encode()))[1])
        else:
            assert logits is None
    tab.locator("input[name=now]").fill("10")                   # long forgotten: read again
    tab.wait_for_function(IDLE)
    assert_same_state(current(tab)[1], model.forward(list(b"x" + TEXT[:9]))[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_dtype_is_read(tab, tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    rwkv_np.save(random_seven(seed=1), path, dtype)
    tab.set_input_files("input[name=file]", path)
    tab.wait_for_function("() => rwkvLive.page.model.generation === 7 && !rwkvLive.page.running")
    type_text(tab, "abc")
    expected, _ = rwkv_np.load(path, np.float64).forward(list(b"abc"), last_only=True)
    np.testing.assert_allclose(current(tab)[0], expected, atol=1e-9)


def test_a_wrong_file_is_refused_with_the_reason(tab, tmp_path):
    whole = BUNDLED_MODEL.read_bytes()
    five, few = tmp_path / "five.safetensors", tmp_path / "few.safetensors"
    rwkv_np.save(RWKV5.init(256, 32, 1), five)
    rwkv_np.save(RWKV7.init(17, 32, 1), few)
    for content, reason in ((b"", "not a whole"), (b"{}" * 50, "not a whole"), (whole[:50000], "ends before"),
                            (bytes([8] + [0] * 7) + b"not JSON", "not JSON"), (five.read_bytes(), "neither an RWKV-4"),
                            (few.read_bytes(), "17 tokens")):
        file = {"name": "wrong.safetensors", "mimeType": "application/octet-stream", "buffer": content}
        tab.set_input_files("input[name=file]", [file])
        status = "document.querySelector('.rwkv-live [role=status]').textContent"
        tab.wait_for_function(f"(reason) => {status}.includes(reason)", arg=reason)
    type_text(tab, "abc")                                       # the model from before still reads
    assert current(tab)[0] is not None


def test_keyboard_alone_and_words_for_colours(tab):
    tab.locator(".rwkv-live textarea").focus()
    tab.keyboard.type("The value")
    tab.keyboard.press("Control+Enter")
    tab.wait_for_function(IDLE)
    assert tab.evaluate("rwkvLive.page.sessions[0].bytes.length") > 300
    reached = set()
    for _ in range(30):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.name || document.activeElement.tagName"))
    assert reached >= {"write", "temperature", "back", "now", "forward", "layer", "channel", "freeze", "clear", "swap",
                       "again", "model", "file", "text"}
    words = tab.locator(".rwkv-live canvas").get_attribute("aria-label")
    assert re.search(r"layer 3 after \d+ bytes: averages of 128 channels.*Orange is positive.*half-life", words)
    nameless = tab.evaluate("""() => [...document.querySelectorAll(".rwkv-live :is(button, input, select, textarea)")]
      .filter((e) => !e.textContent.trim() && !e.getAttribute("aria-label") && !e.closest("label"))
      .map((e) => e.outerHTML)""")
    assert not nameless


def test_touch_chooses_a_channel_and_motion_is_seen_where_it_may_be(files, browser):
    tab = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark")
    tab.goto(files["page"].as_uri())
    tab.wait_for_function(READY)
    canvas = tab.locator(".rwkv-live canvas")
    canvas.tap(position={"x": 50, "y": canvas.bounding_box()["height"] / 2})
    assert abs(tab.evaluate("rwkvLive.page.row") - 64) <= 1
    tab.locator("button[name=write]").tap()
    tab.wait_for_function("() => rwkvLive.page.sessions[0].bytes.length > 40 && rwkvLive.page.writing")
    assert tab.locator("button[name=write]").inner_text() == "Stop"
    tab.locator("button[name=write]").tap()
    tab.wait_for_function(IDLE)
    assert tab.evaluate("rwkvLive.page.sessions[0].bytes.length") < 330
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.close()


def test_the_page_of_the_book_loads_its_models_from_beside_it(files, browser):
    """The lines of docs/live.md, in the folders that the book has, by HTTP and from disk."""
    folder = files["page"].parent
    lines = (ROOT / "docs" / "live.md").read_text(encoding="utf-8").splitlines()
    page = folder / "docs" / "live.html"
    page.parent.mkdir()
    page.write_text("<!doctype html><meta charset=utf-8><link rel=icon href=data:,>"
                    + "\n".join(line for line in lines if line.startswith(("<link", "<div", "<script"))))
    for path in (ROOT / "docs" / "_static").glob("rwkv-live*"):
        shutil.copy(path, folder / "_static")
    handler = functools.partial(type("Quiet", (http.server.SimpleHTTPRequestHandler,), {
        "log_message": lambda *_: None}), directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for address in (f"http://127.0.0.1:{server.server_address[1]}/docs/live.html", page.as_uri()):
            tab, complaints = browser.new_page(), []
            tab.on("console", lambda m, to=complaints: to.append(m.text))
            tab.on("pageerror", lambda e, to=complaints: to.append(str(e)))
            tab.goto(address)
            tab.wait_for_function(READY)
            choose(tab, 7)
            assert current(tab)[1]["wkv"].any() and not complaints
            tab.close()
        server.shutdown()


@pytest.mark.long
@pytest.mark.parametrize("generation", [4, 7])
def test_memory_stays_the_same_over_20000_bytes(tab, generation):
    choose(tab, generation)
    debugger = tab.context.new_cdp_session(tab)
    debugger.send("HeapProfiler.enable")
    used = []
    for length in (4000, 20000):
        tab.evaluate("""async (length) => { const text = document.querySelector(".rwkv-live textarea");
          text.value = Array.from({ length }, (_, i) => "abc de\\n"[(i * i) % 7]).join("");
          text.dispatchEvent(new Event("input", { bubbles: true })); }""", length)
        read = f"() => !rwkvLive.page.running && rwkvLive.page.sessions[0].now === {length}"
        tab.wait_for_function(read, timeout=600_000)
        for _ in range(2):
            debugger.send("HeapProfiler.collectGarbage")
        usage = debugger.send("Runtime.getHeapUsage")
        used.append(usage["usedSize"] + usage["backingStorageSize"])
    assert used[1] - used[0] < 2e6, used                        # 16,000 states of RWKV-4 would be 260 MB
