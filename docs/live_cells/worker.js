// The worker that holds Python. The page posts { number, source } for each cell; back go { kind, content }:
// "status", "stdout", "stderr", "picture" while it runs, and "done", true or false, at the end of each cell.

const here = new URL(".", self.location.href).href;
const send = (kind, content) => self.postMessage({ kind, content });

const unzipped = async (name) => {
  const answer = await fetch(`${here}${name}.gzip`);
  if (!answer.ok) throw new Error(`${name}.gzip: ${answer.status}`);
  return answer.body.pipeThrough(new DecompressionStream("gzip"));
};

// Fetch a file and wait for it, which a worker may: Python's import cannot wait in any other way.
function read(name) {
  const request = new XMLHttpRequest();
  request.open("GET", here + name, false);
  request.responseType = "arraybuffer";
  request.send();
  if (request.status !== 200) throw new Error(`${name}: ${request.status}`);
  return request.response;
}

async function start() {
  send("status", "Loading Python");
  importScripts("pyodide.js");
  const files = await (await fetch(`${here}files.json`)).json();
  const downloads = files.start.map(async (name) => [name, await (await fetch(here + name)).arrayBuffer()]);
  const script = await new Response(await unzipped("pyodide.asm.js")).text();
  (0, eval)(script);                        // defines what pyodide.js would load as a file
  const plainFetch = self.fetch;
  self.fetch = async (url, ...options) => String(url).endsWith("pyodide.asm.wasm")
    ? new Response(await unzipped("pyodide.asm.wasm"), { headers: { "Content-Type": "application/wasm" } })
    : plainFetch(url, ...options);
  const pyodide = await loadPyodide({ indexURL: here });

  send("status", "Loading NumPy and rwkv_np");
  const library = pyodide.runPython("import site; site.getsitepackages()[0]");
  const unpack = (data) => pyodide.unpackArchive(data, "zip", { extractDir: library });
  for (const download of downloads) unpack((await download)[1]);
  pyodide.FS.mkdir(`${library}/rwkv_np/files/models`);
  for (const name of files.models) {        // fetched when they are opened
    pyodide.FS.createLazyFile(`${library}/rwkv_np/files/models`, name, here + name, true, false);
  }
  const module = pyodide.toPy({});
  pyodide.runPython(await (await fetch(`${here}run.py`)).text(), { globals: module });
  module.get("start")(
    pyodide.toPy(files.imports),
    (kind, content) => send(kind, content.toJs ? content.toJs() : content),
    (name) => {
      send("status", `Loading ${name.split("-")[0].replace(".zip", "")}`);
      unpack(read(name));
      send("status", "Running");
    });
  return module.get("run");
}

const ready = start();

self.onmessage = async ({ data: { number, source } }) => {
  try {
    const run = await ready;
    send("status", "Running");
    send("done", run(source, number));
  } catch (error) {
    setTimeout(() => { throw error; });     // to the page's onerror: this worker is of no more use
  }
};
