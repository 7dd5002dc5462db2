"""Write what the page "RWKV live" needs beside its scripts: the weights, and itself as a single file.

A page that is opened from disk may load scripts but no other files. So the weights are written as scripts, the bytes of
each .safetensors in base64. `python docs/rwkv_live.py FOLDER` writes the same into FOLDER, without the book.
"""

import base64
import json
import sys
from pathlib import Path

from rwkv_np.files.bundled import BUNDLED_MODELS

STATIC = Path(__file__).parent / "_static"
SCRIPTS = [STATIC / f"rwkv-live{name}.js" for name in ("-files", "-model", "-session", "")]
TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:image/svg+xml;base64,{icon}">
<title>RWKV live</title>
<style>{style}</style>
<body class="rwkv-live-alone">
<h1>RWKV live</h1>
<p>A small language model, trained on Python's documentation, reads what you type, byte by byte. You see what it
remembers and what it expects next, and you can change its memory by hand. One file; nothing is sent anywhere.</p>
<div id="rwkv-live-page" class="rwkv-live"><noscript>This page needs JavaScript.</noscript></div>
{scripts}
</body>
</html>
"""


def write(book, models=BUNDLED_MODELS):
    """Write the weights into the folder `book`/_static, and the page as one file, `book`/rwkv-live.html.

    models: {generation: path}; those that are not there are skipped.
    """
    models = {generation: path for generation, path in sorted(models.items()) if path.is_file()}
    offered = json.dumps([[f"RWKV-{generation}", path.stem] for generation, path in models.items()])
    scripts = {"rwkv-live-models.js": f"rwkvLive.offered.push(...{offered});\n"}
    for path in models.values():
        weights = base64.b64encode(path.read_bytes()).decode()
        scripts[f"rwkv-live-{path.stem}.js"] = f'rwkvLive.receive("{path.stem}", "{weights}");\n'
    (book / "_static").mkdir(parents=True, exist_ok=True)
    for name, script in scripts.items():
        (book / "_static" / name).write_text(script, encoding="utf-8")
    files, *others = [path.read_text(encoding="utf-8") for path in SCRIPTS]
    page = TEMPLATE.format(
        icon=base64.b64encode((STATIC / "icon.svg").read_bytes()).decode(),
        style=(STATIC / "rwkv-live.css").read_text(encoding="utf-8"),
        scripts="\n".join(f"<script>\n{script}</script>" for script in (files, *scripts.values(), *others)))
    (book / "rwkv-live.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
