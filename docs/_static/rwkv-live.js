// RWKV live, 4 of 4: the page. It draws what the session holds, and hands on what the reader does.
(function () {
  "use strict";
  const { Session, softmax, ranked, loadModel, loadWeights, offered } = window.rwkvLive;

  const BEST = 8, WRITE = 300;                // bytes that are shown as expected, and that one press writes
  const POSITIVE = [216, 110, 0], NEGATIVE = [38, 132, 204], GREY = [128, 128, 128];    // over black and over white
  const TEXTS = ['The "with" statement is used to ', 'str.upper()\n\n   Return a copy of the string '];
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const root = document.getElementById("rwkv-live-page");
  const page = { model: null, sessions: [], active: 0, layer: 0, row: 0, frozen: {}, writing: 0, readyAfter: null };

  root.innerHTML = `
    <div class="row">
      <label>Model <select name="model"></select></label>
      <label>or your own, over bytes <input type="file" name="file" accept=".safetensors"></label>
    </div>
    <p role="status" data-name="status">Loading the weights ...</p>
    <div class="row" role="radiogroup" aria-label="Text">
      <label><input type="radio" name="text" value="0" checked> text A</label>
      <label><input type="radio" name="text" value="1"> text B</label>
    </div>
    <textarea rows="6" aria-label="The text that the model reads; Control and Enter: it writes on" spellcheck="false"
      autocapitalize="off" autocomplete="off"></textarea>
    <div class="row">
      <button name="write" class="press">Write on</button>
      <label>temperature <input type="range" name="temperature" min="0" max="1.5" step="0.1" value="0.7">
        <output data-name="temperature">0.7</output></label>
    </div>
    <div class="row time">
      <button name="back" aria-label="One byte back">◀</button>
      <input type="range" name="now" min="0" max="0" aria-label="Bytes read">
      <button name="forward" aria-label="One byte forward">▶</button>
      <output data-name="now"></output>
    </div>
    <h2>It expects next</h2>
    <ol class="next"></ol>
    <h2 data-name="heading">Its state</h2>
    <div class="row">
      <label>layer <select name="layer"></select></label>
      <span class="scale"><span data-name="low"></span><i></i><span data-name="high"></span>
        <span data-name="grey"></span></span>
    </div>
    <div class="map"><div class="ticks" aria-hidden="true"></div>
      <div class="cells"><canvas role="img"></canvas><div class="marks" aria-hidden="true"></div></div></div>
    <div class="letters" aria-hidden="true"></div>
    <h2>Change it by hand</h2>
    <label class="channel"><span>channel</span> <input type="range" name="channel" min="0" value="0">
      <output data-name="channel"></output></label>
    <div class="row">
      <button name="freeze" aria-pressed="false">Freeze the channel</button>
      <button name="clear">Clear the layer</button>
      <button name="swap">Swap the states of A and B</button>
      <button name="again">Read again, unchanged</button>
    </div>`;
  const named = (name) => root.querySelector(`[data-name="${name}"]`);
  const control = (name) => root.querySelector(`[name="${name}"]`);
  const [text, canvas, letters] = ["textarea", "canvas", ".letters"].map((name) => root.querySelector(name));
  const next = Array.from({ length: BEST }, () => {
    const item = document.createElement("li");
    item.innerHTML = '<button><span class="byte"></span><i></i><span class="share"></span></button>';
    item.firstChild.addEventListener("click", () => setText([...session().bytes.slice(0, session().now), item.byte]));
    return root.querySelector(".next").appendChild(item);
  });

  const session = () => page.sessions[page.active];
  const say = (message) => { named("status").textContent = message; };
  const encode = (string) => [...new TextEncoder().encode(string)];
  const decode = (bytes) => new TextDecoder().decode(Uint8Array.from(bytes));
  const shown = (x) => (Number.isFinite(x) ? String(Number(x.toPrecision(3))) : "∞").replace("-", "−");
  const letter = (byte) => ({ 10: "⏎", 32: "␣" }[byte] || (byte > 32 && byte < 127 ? String.fromCharCode(byte)
    : byte.toString(16).toUpperCase().padStart(2, "0")));

  // What is drawn. Rows of cells, from top to bottom: RWKV-4 has a row for each channel, the longest half-life first,
  // and a column for each of the last bytes; RWKV-7 has the matrices of a layer's heads after the last byte.

  const halfLife = (layer, c) => Math.LN2 / Math.exp(page.model.layers[layer].att.time_decay[c]);
  const sorted = (layer) => [...Array(page.model.width).keys()].sort((a, b) => halfLife(layer, b) - halfLife(layer, a));
  const channelOf = (row) => (page.model.generation === 4 ? page.order[page.layer][row] : row);

  function cellsOfAverages() {                // num / den: (D, columns), NaN where the state is empty
    const columns = Math.max(16, Math.floor(canvas.parentNode.clientWidth / 9)), D = page.model.width;
    const values = new Float64Array(D * columns).fill(NaN), { now, snapshots } = session();
    for (let x = 0; x < columns; x++) {
      const { num, den } = snapshots.get(now - columns + 1 + x)?.state[page.layer] || {};
      if (!num) continue;
      page.order[page.layer].forEach((c, y) => { values[y * columns + x] = den[c] > 0 ? num[c] / den[c] : NaN; });
    }
    return { columns, rows: D, values };
  }

  function cellsOfMatrices() {                // S[value, key] of each head: side by side, or two in a row on a phone
    const { width, N } = page.model, { wkv } = session().current.state[page.layer];
    const wide = Math.min(width / N, canvas.parentNode.clientWidth < 480 ? 2 : 4), columns = wide * (N + 1) - 1;
    const rows = Math.ceil(width / N / wide) * (N + 1) - 1, values = new Float64Array(rows * columns).fill(Infinity);
    for (let m = 0; m < width; m++) {
      const [x, y] = placeOfRow(m, wide);
      for (let n = 0; n < N; n++) values[y * columns + x + n] = wkv[m * N + n];
    }
    return { columns, rows, values, wide };
  }

  function placeOfRow(m, wide) {              // of the row of value channel m -> [x, y] in cells
    const { N } = page.model, head = Math.floor(m / N);
    return [(head % wide) * (N + 1), Math.floor(head / wide) * (N + 1) + (m % N)];
  }

  function drawState() {
    const cells = page.model.generation === 4 ? cellsOfAverages() : cellsOfMatrices();
    const { columns, rows, values } = cells, sizes = values.filter(Number.isFinite).map(Math.abs).sort();
    const limit = sizes[Math.floor(0.99 * (sizes.length - 1))] || 1;            // else a few large ones leave all pale
    Object.assign(canvas, { width: columns, height: rows });
    const image = new ImageData(columns, rows);
    values.forEach((value, i) => {            // the sign is the hue, the size the opacity
      const colour = !Number.isFinite(value) ? GREY : value > 0 ? POSITIVE : NEGATIVE;
      const opacity = Number.isNaN(value) ? 0.2 : Math.min(1, Math.abs(value) / limit);
      image.data.set([...colour, Math.round(255 * opacity)], 4 * i);
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
    page.drawn = { ...cells, limit };
    named("low").textContent = `−${shown(limit)}`;
    named("high").textContent = shown(limit);
    drawMarks(cells);
    const { now, bytes } = session(), four = page.model.generation === 4;
    const { width, N } = page.model, heads = Array.from({ length: width / N || 0 }, (_, head) => head);
    const below = four ? Array.from({ length: columns }, (_, x) => bytes[now - columns + x])
      .map((byte) => (byte === undefined ? "" : letter(byte)))
      : Array.from({ length: cells.wide }, (_, x) => heads.filter((head) => head % cells.wide === x))
        .map((column) => `head${column.length > 1 ? "s" : ""} ${column.join(", ")}`);     // from top to bottom
    letters.style.gridTemplateColumns = `repeat(${below.length}, 1fr)`;
    letters.replaceChildren(...below.map((textContent) => Object.assign(document.createElement("span"),
      { textContent })));
    canvas.setAttribute("aria-label", describe(sizes.length ? sizes[sizes.length - 1] : 0));
  }

  function drawMarks({ columns, rows, wide }) {           // the chosen channel, and the frozen ones
    const mark = (row, kind) => {
      const [x, y] = wide ? placeOfRow(row, wide) : [0, row], div = document.createElement("div");
      div.className = kind;
      div.style.cssText = `left: ${(100 * x) / columns}%; top: ${(100 * y) / rows}%; height: ${100 / rows}%;
        width: ${wide ? (100 * page.model.N) / columns : 100}%`;
      return div;
    };
    const frozen = [...Array(page.model.width).keys()].filter((row) => page.frozen[page.layer]?.has(channelOf(row)));
    root.querySelector(".marks").replaceChildren(...frozen.map((row) => mark(row, "frozen")), mark(page.row, "chosen"));
    const ticks = [];
    if (!wide) for (let decade = 10000, last = -Infinity; decade > 0.01; decade /= 10) {
      const row = page.order[page.layer].findIndex((c) => halfLife(page.layer, c) < decade);
      if (row <= 0 || row - last < 0.035 * rows) continue;
      ticks.push(Object.assign(document.createElement("span"), { textContent: shown(decade) }));
      ticks[ticks.length - 1].style.top = `${(100 * row) / rows}%`;
      last = row;
    }
    root.querySelector(".ticks").replaceChildren(...ticks);
  }

  function describe(largest) {                // the picture in words
    const { layer, model } = page;
    const kind = model.generation === 4 ? `averages of ${model.width} channels, longest half-life first`
      : `matrices of ${model.width / model.N} heads, ${model.N} by ${model.N}, rows are value channels`;
    return `State of layer ${layer} after ${session().now} bytes: ${kind}. Orange is positive, blue negative; `
      + `the largest is ${shown(largest)}. ${channelText(channelOf(page.row))}`;
  }

  function channelText(c) {
    const { model, layer } = page, state = session().current.state[layer];
    const frozen = page.frozen[layer]?.has(c) ? ", frozen" : "";
    if (model.generation === 4) {
      return `Channel ${c}${frozen}: half-life ${shown(halfLife(layer, c))} tokens; average `
        + (state.den[c] > 0 ? `${shown(state.num[c] / state.den[c])} (num ${shown(state.num[c])}, `
          + `den ${shown(state.den[c])}, log_scale ${shown(state.logScale[c])})` : "none, its past is empty");
    }
    const { N } = model, norm = Math.sqrt(state.wkv.subarray(c * N, (c + 1) * N).reduce((a, b) => a + b * b, 0));
    return `Head ${Math.floor(c / N)}, value channel ${c % N}${frozen}: length of its row ${shown(norm)}`;
  }

  function drawExpected() {
    const { logits } = session().current, p = logits && softmax(logits), best = p && ranked(p);
    next.forEach((item, i) => {
      item.hidden = !p;
      if (!p) return;
      const [name, bar, share] = item.firstChild.children, percent = p[best[i]] < 5e-4 ? "< 0.1%"
        : `${(100 * p[best[i]]).toFixed(1)}%`;
      item.byte = best[i];
      name.textContent = letter(best[i]);
      bar.style.width = `${100 * p[best[i]]}%`;
      share.textContent = percent;
      const spoken = { 10: "new line", 32: "space" }[best[i]] || letter(best[i]);
      item.firstChild.setAttribute("aria-label", `${spoken}, ${percent}: add it`);
    });
  }

  function draw() {
    const { bytes, now } = session();
    const value = decode(bytes);
    if (text.value !== value) {
      text.value = value;
      text.scrollTop = text.scrollHeight;
    }
    Object.assign(control("now"), { max: bytes.length, value: now });
    named("now").textContent = `${now} of ${bytes.length} bytes read`;
    control("write").textContent = page.writing ? "Stop" : "Write on";
    control("freeze").setAttribute("aria-pressed", Boolean(page.frozen[page.layer]?.has(channelOf(page.row))));
    named("channel").textContent = channelText(channelOf(page.row));
    drawExpected();
    drawState();
  }

  // Reading and writing, in slices that leave the page responsive; where motion is not wanted, drawn when it is done.

  function work() {
    const moved = session().readOne() || (page.writing > 0 && session().writeOne(Number(control("temperature").value))
      && page.writing--) || page.sessions[1 - page.active].readOne();
    if (!moved) page.writing = 0;
    return moved;
  }

  async function run() {
    if (page.running) return;
    page.running = true;
    while (work()) {
      const end = performance.now() + 25, visibly = page.writing && !calm.matches;
      while (!visibly && performance.now() < end && work());
      if (!calm.matches) draw();
      await new Promise((resume) => setTimeout(resume, visibly ? 12 : 0));
    }
    page.running = false;
    draw();
  }

  function setText(bytes) {
    page.writing = 0;
    session().setText(bytes);
    run();
  }

  function write() {
    page.writing = page.writing ? 0 : WRITE;
    if (page.writing && !session().bytes.length) say("Type something first: before the first byte it expects nothing.");
    run();
  }

  function change(action, message) {
    page.writing = 0;
    action();
    say(message);
    draw();
    run();
  }

  async function open(load, name) {
    say("Loading the weights ...");
    try {
      page.model = loadModel(await load());
    } catch (error) {
      return say(`${name} was not opened: ${error.message}.`);
    }
    const { model } = page, texts = page.sessions.length ? page.sessions.map(({ bytes }) => bytes) : TEXTS.map(encode);
    Object.assign(page, { layer: model.layers.length - 1, row: 0, frozen: {}, writing: 0 });
    page.order = model.generation === 4 ? model.layers.map((_, layer) => sorted(layer)) : null;
    page.sessions = texts.map((bytes) => {
      const opened = new Session(model, page.frozen);
      opened.setText(bytes);
      return opened;
    });
    control("layer").replaceChildren(...model.layers.map((_, layer) => new Option(layer, layer)));
    control("layer").value = page.layer;
    control("channel").max = model.width - 1;
    control("channel").value = 0;
    named("heading").textContent = model.generation === 4
      ? "Its state: averages of past values, channels by half-life in tokens"
      : "Its state: a matrix for each head, a row per value channel, a column per key channel";
    named("grey").textContent = model.generation === 4 ? "(grey: empty)" : "";
    root.dataset.generation = model.generation;
    say(`RWKV-${model.generation}, ${model.parameters.toLocaleString("en")} parameters.`);
    page.readyAfter ??= performance.now();
    text.value = "";
    await run();
  }

  // What the reader does.

  const actions = {
    write, back: () => step(-1), forward: () => step(1),
    clear: () => change(() => session().clearLayer(page.layer),
      `Layer ${page.layer} is cleared: this shows from the next byte on.`),
    swap: () => change(() => Session.swapStates(...page.sessions),
      "The states are swapped: each text goes on with the state of the other."),
    again: () => change(() => {
      for (const layer in page.frozen) delete page.frozen[layer];
      page.sessions.forEach((each) => each.restart());
    }, "Both texts are read again from the start; nothing is frozen."),
    freeze: () => {
      const frozen = page.frozen[page.layer] ??= new Set(), c = channelOf(page.row), was = frozen.delete(c);
      if (!was) frozen.add(c);
      change(() => session().forgetAfter(session().now),
        `Channel ${c} of layer ${page.layer} ${was ? "changes again" : "keeps what it holds"} from the next byte on.`);
    },
  };
  const step = (by) => {
    const { now, bytes } = session();
    change(() => session().moveTo(Math.max(0, Math.min(bytes.length, now + by))), "");
  };
  root.addEventListener("click", ({ target }) => page.model && actions[target.name]?.());
  root.addEventListener("input", ({ target }) => {
    const { name, value } = target;
    if (name === "temperature") named("temperature").textContent = value;
    if (!page.model) return;
    if (target === text) setText(encode(text.value));
    if (name === "now") change(() => session().moveTo(Number(value)), "");
    if (name === "layer") page.layer = Number(value);
    if (name === "channel") page.row = Number(value);
    if (name === "text") change(() => { page.active = Number(value); }, "");
    if (name === "layer" || name === "channel") draw();
  });
  root.addEventListener("change", ({ target }) => {
    if (target.name === "model") open(() => loadWeights(target.value), target.value);
    if (target.name !== "file" || !target.files[0]) return;
    control("model").selectedIndex = -1;
    open(() => target.files[0].arrayBuffer(), target.files[0].name);
  });
  root.addEventListener("keydown", (event) => {           // arrow keys turn the pages of the book elsewhere
    event.stopPropagation();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && page.model) write();
    if (event.key === "Escape") page.writing = 0;
  });
  canvas.addEventListener("pointerdown", (event) => {     // choose the channel under the finger
    const box = canvas.getBoundingClientRect(), { columns, rows, wide } = page.drawn, { N, width } = page.model;
    const x = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const y = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const head = wide && Math.floor(y / (N + 1)) * wide + Math.floor(x / (N + 1));
    const row = wide ? head * N + Math.min(N - 1, y % (N + 1)) : y;
    page.row = Math.max(0, Math.min(width - 1, row));
    control("channel").value = page.row;
    draw();
  });

  control("model").replaceChildren(...offered.map(([label, name]) => new Option(label, name)));
  new ResizeObserver(() => page.model && draw()).observe(root);
  Object.assign(window.rwkvLive, { page, open });
  open(() => loadWeights(offered[0][1]), offered[0][1]);
})();
