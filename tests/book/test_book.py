"""The book builds without a warning, and works in a browser: links, pictures, formulas, on a phone, in dark mode.

The tests in a browser require Chromium or Chrome, and are skipped where there is none.
"""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import numpy as np
import pytest
from book.serving import serve

from rwkv_np import wkv4

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Build the book; return its folder."""
    folder = tmp_path_factory.mktemp("book")
    run = subprocess.run([sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-c", "docs",
                          "-d", folder / "doctrees", ".", folder / "html"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder / "html"


class Page(HTMLParser):
    """Collect the links of a page, the files that it loads, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes.get("id"), attributes.get("name")}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        elif tag == "link" and attributes.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(attributes["href"])
        elif attributes.get("src"):
            self.loaded.append(attributes["src"])


def test_every_link_and_picture_is_there_and_nothing_comes_from_elsewhere(book):
    pages = {path: Page(path) for path in book.rglob("*.html")}
    assert len(pages) > 40
    missing = []
    for path, page in pages.items():
        for address in page.loaded:
            assert not urlsplit(address).netloc, f"{path.name} loads {address}"
        for address in page.links + page.loaded:
            if urlsplit(address).scheme in ("http", "https", "mailto", "data"):
                continue
            file, anchor = urldefrag(unquote(address.split("?")[0] if "#" not in address else address))
            target = (path.parent / file).resolve() if file else path
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors):
                missing.append(f"{path.relative_to(book)} -> {address}")
    assert not missing, "\n".join(missing)


def test_every_notebook_and_page_is_in_the_book(book):
    for folder, suffix in (("notebooks", "ipynb"), ("docs", "md")):
        sources = {path.stem for path in (ROOT / folder).glob(f"*.{suffix}")}
        assert sources == {path.stem for path in (book / folder).glob("*.html")}


@pytest.fixture(scope="module")
def address(book):
    with serve(book) as address:
        yield address


LOOK = """() => ({
  formulas: document.querySelectorAll(".math").length,
  drawn: document.querySelectorAll("mjx-container").length,
  wrong: document.querySelectorAll("mjx-merror, [data-mml-node=merror]").length,
  pictures: [...document.images].filter((i) => !i.complete || i.naturalWidth === 0).map((i) => i.src),
  width: document.documentElement.scrollWidth, window: window.innerWidth,
  colour: getComputedStyle(document.body).color, background: getComputedStyle(document.body).backgroundColor})"""


def luminance(colour):
    red, green, blue = (float(x) for x in colour[colour.index("(") + 1:-1].split(",")[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize("size, scheme", [((1280, 900), "light"), ((390, 844), "dark")], ids=["desk", "phone, dark"])
def test_every_page_in_a_browser(book, address, browser, size, scheme):
    tab = browser.new_page(viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme)
    tab.goto(address)
    tab.wait_for_url("**/docs/index.html")                  # the start page leads on
    complaints = []
    tab.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda e: complaints.append(str(e)))
    tab.on("requestfailed", lambda r: None if r.failure == "net::ERR_ABORTED"      # by turning the page
           else complaints.append(f"not loaded: {r.url}"))
    tab.on("request", lambda r: None if r.url.startswith((address, "data:")) else complaints.append(f"asks {r.url}"))
    pages = {*book.glob("docs/*.html"), *book.glob("notebooks/*.html"), *book.glob("*.html")} - {book / "index.html"}
    for path in sorted(pages):
        name = path.relative_to(book).as_posix()
        tab.goto(f"{address}/{name}", wait_until="load")
        if tab.evaluate("!!document.querySelector('.math')"):
            tab.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
            tab.evaluate("MathJax.startup.promise")
        seen = tab.evaluate(LOOK)
        assert not complaints, (name, complaints)
        assert seen["formulas"] == seen["drawn"] and not seen["wrong"], (name, seen)
        assert not seen["pictures"], (name, seen["pictures"])
        assert seen["width"] <= seen["window"] + 1, f"{name} is {seen['width']} wide in {seen['window']}"
        if path.parent != book:
            text, ground = luminance(seen["colour"]), luminance(seen["background"])
            assert (text > ground) == (scheme == "dark") and abs(text - ground) > 0.5, (name, text, ground)
    tab.close()


def test_wkv_by_hand_is_wkv4(address, browser):
    tab = browser.new_page()
    tab.goto(f"{address}/docs/by-hand.html")
    tab.wait_for_function("() => window.wkvByHand")
    rng = np.random.default_rng(0)
    for size in (1, 3, 30, 300, 1000):
        for length in (1, 2, 8, 50):
            w, u = np.array([10 ** rng.uniform(-4, 1)]), rng.normal(0, 3, 1)
            k, v = rng.normal(0, size, (length, 1)), rng.normal(size=(length, 1))
            inputs = [float(w[0]), float(u[0]), k[:, 0].tolist(), v[:, 0].tolist()]
            average, there = tab.evaluate("([w, u, k, v]) => [wkvByHand.average(w, u, k, v),"
                                          "wkvByHand.recurrence(w, u, k, v)]", inputs)
            np.testing.assert_allclose(average, wkv4.all_pairs(w, u, k, v)[0][:, 0], rtol=0, atol=1e-9)
            out, state = wkv4.recurrent(w, u, k, v)
            np.testing.assert_allclose(there["out"], out[:, 0], rtol=0, atol=1e-9)
            last = there["states"][-1]
            np.testing.assert_allclose([last["num"], last["den"], last["p"]], [x[0] for x in state], rtol=0, atol=1e-9)
            weights = tab.evaluate("([w, u, k, v]) => wkvByHand.weights(w, u, k, k.length - 1)", inputs)
            expected = wkv4.all_pairs_weights(w, u, k)[0, -1, 1:]
            np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-9)
    tab.close()


def test_wkv_by_hand_follows_the_hand(address, browser):
    tab = browser.new_page()
    tab.goto(f"{address}/docs/by-hand.html")
    tab.wait_for_function("() => window.wkvByHand")

    def drawn():                                            # both readings, off the picture
        return tab.evaluate("""() => ({
          line: document.querySelector(".by-hand .average").getAttribute("points").split(" ")
            .map((p) => Number(p.split(",")[1])),
          circles: [...document.querySelectorAll(".by-hand .recurrence")].map((c) => Number(c.getAttribute("cy"))),
          expected: wkvByHand.recurrence(wkvByHand.model.w, wkvByHand.model.u, wkvByHand.model.k, wkvByHand.model.v)
            .out.map(wkvByHand.outY),
          key: wkvByHand.model.k[2]})""")

    before = drawn()
    handle = tab.locator(".by-hand .handle").nth(2)
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x, y - 40, steps=4)
    tab.mouse.up()
    dragged = drawn()
    assert dragged["key"] > before["key"] + 0.5
    handle.press("ArrowDown")
    pressed = drawn()
    assert abs(pressed["key"] - (dragged["key"] - 0.1)) < 1e-9
    for name in ("w", "u"):
        tab.locator(f".by-hand input[name={name}]").fill("1.5")
    slid = drawn()
    for one, other in ((before, dragged), (dragged, pressed), (pressed, slid)):
        assert np.abs(np.subtract(one["line"], other["line"])).max() > 0.5           # pixels: it is seen to move
    for seen in (before, dragged, pressed, slid):
        np.testing.assert_allclose(seen["line"], seen["circles"], atol=1e-9)
        np.testing.assert_allclose(seen["circles"], seen["expected"], atol=1e-9)
    assert float(tab.locator('.by-hand [data-name="difference"]').inner_text()) < 1e-12
    tab.close()
