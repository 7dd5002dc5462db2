// WKV by hand: both readings of one formula, computed independently, drawn together. No library, no network.
(function () {
  "use strict";

  // The two readings, one channel. The tests compare them with `wkv4.all_pairs` and `wkv4.recurrent`.

  function weights(w, u, k, t) {              // of tokens 0 .. t in the output at t
    const logs = k.slice(0, t + 1).map((key, i) => (i < t ? key - (t - 1 - i) * w : u + key));
    const top = Math.max(...logs);
    const terms = logs.map((x) => Math.exp(x - top));
    const sum = terms.reduce((a, b) => a + b, 0);
    return terms.map((x) => x / sum);
  }

  function average(w, u, k, v) {
    return k.map((_, t) => weights(w, u, k, t).reduce((sum, weight, i) => sum + weight * v[i], 0));
  }

  function recurrence(w, u, k, v) {           // out, and the state before every token and after the last
    let num = 0, den = 0, p = -Infinity;
    const out = [], states = [{ num, den, p }];
    for (let t = 0; t < k.length; t++) {
      let q = Math.max(p, u + k[t]), ePast = Math.exp(p - q), eNow = Math.exp(u + k[t] - q);
      out.push((ePast * num + eNow * v[t]) / (ePast * den + eNow));
      q = Math.max(p - w, k[t]);
      ePast = Math.exp(p - q - w);
      eNow = Math.exp(k[t] - q);
      num = ePast * num + eNow * v[t];
      den = ePast * den + eNow;
      p = q;
      states.push({ num, den, p });
    }
    return { out, states };
  }

  // The figure.

  const T = 8, KEY = 3, WIDTH = 640, LEFT = 46, COLUMN = (WIDTH - LEFT - 10) / T;
  const PANEL = { keys: [34, 150], weights: [206, 300], out: [358, 480] };     // top and bottom
  const model = { w: 0.4, u: 0.5, t: 5, k: [0, 1.5, -1, 0.5, 0, 2, -0.5, 0.5], v: [1, 3, -2, 2, -1, 0.5, 2.5, -2.5] };
  const root = document.getElementById("by-hand-figure");
  const drawn = {};

  const x = (i) => LEFT + (i + 0.5) * COLUMN;
  const within = ([top, bottom], value, low, high) => bottom - ((value - low) / (high - low)) * (bottom - top);
  const keyY = (value) => within(PANEL.keys, value, -KEY, KEY);
  const outY = (value) => within(PANEL.out, value, -3.2, 3.2);
  const shown = (value) => (Number.isFinite(value) ? value.toFixed(4) : String(value).replace("-Infinity", "−∞"))
    .replace("-", "−");

  function element(name, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function build() {
    const svg = element("svg", { viewBox: `0 0 ${WIDTH} 500`, role: "group",
      "aria-label": "Keys, weights and outputs of eight tokens" });
    const add = (name, attributes, text) => svg.appendChild(element(name, attributes, text));
    drawn.cursor = add("line", { class: "cursor", y1: PANEL.keys[0], y2: PANEL.out[1] });
    for (const [name, title] of [["keys", "keys k: drag the green dots"],
      ["weights", ""], ["out", "output: average (line), recurrence (circles), values (dots)"]]) {
      const [top, bottom] = PANEL[name];
      const heading = add("text", { x: LEFT, y: top - 14 }, title);
      if (name === "weights") drawn.title = heading;
      add("line", { class: "axis", x1: LEFT, x2: LEFT, y1: top, y2: bottom });
      const low = name === "weights" ? bottom : (top + bottom) / 2;
      add("line", { class: "axis", x1: LEFT, x2: WIDTH - 10, y1: low, y2: low });
      const ends = { keys: ["3", "−3"], weights: ["1", "0"], out: ["3.2", "−3.2"] }[name];
      add("text", { class: "faint", x: LEFT - 6, y: top + 5, "text-anchor": "end" }, ends[0]);
      add("text", { class: "faint", x: LEFT - 6, y: bottom + 4, "text-anchor": "end" }, ends[1]);
    }
    drawn.stems = []; drawn.handles = []; drawn.bars = []; drawn.circles = [];
    for (let i = 0; i < T; i++) {
      drawn.stems.push(add("rect", { class: "past", x: x(i) - 4, width: 8 }));
      drawn.bars.push(add("rect", { x: x(i) - 20, width: 40 }));
      add("circle", { class: "value", cx: x(i), cy: outY(model.v[i]), r: 3 });
    }
    drawn.line = add("polyline", { class: "average" });
    for (let i = 0; i < T; i++) {
      drawn.circles.push(add("circle", { class: "recurrence", cx: x(i), r: 7 }));
      const handle = add("circle", { class: "handle", cx: x(i), r: 11, tabindex: 0, role: "slider",
        "aria-label": `key of token ${i}`, "aria-valuemin": -KEY, "aria-valuemax": KEY, "aria-orientation": "vertical" });
      drawn.handles.push(handle);
      const put = (value) => { model.k[i] = Math.max(-KEY, Math.min(KEY, value)); draw(); };
      handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
      handle.addEventListener("pointermove", (event) => {
        if (!handle.hasPointerCapture(event.pointerId)) return;
        const box = svg.getBoundingClientRect();
        const y = ((event.clientY - box.top) / box.height) * 500, [top, bottom] = PANEL.keys;
        put(KEY - ((y - top) / (bottom - top)) * 2 * KEY);
      });
      handle.addEventListener("keydown", (event) => {
        const by = { ArrowUp: 0.1, ArrowRight: 0.1, ArrowDown: -0.1, ArrowLeft: -0.1 }[event.key];
        if (by) { event.preventDefault(); event.stopPropagation(); put(model.k[i] + by); }
      });
    }
    root.appendChild(svg);

    drawn.inputs = {};
    for (const [name, text, low, high, by] of [["w", "decay w", 0, 2, 0.01], ["u", "bonus u", -4, 4, 0.05],
      ["t", "look at token t", 0, T - 1, 1]]) {
      const label = document.createElement("label"), value = document.createElement("output");
      const input = Object.assign(document.createElement("input"), { type: "range", min: low, max: high, step: by });
      input.value = model[name];
      input.name = name;
      input.addEventListener("input", () => { model[name] = Number(input.value); draw(); });
      input.addEventListener("keydown", (event) => event.stopPropagation());
      label.append(text, input, value);
      root.appendChild(label);
      drawn.inputs[name] = [input, value];
    }
    const table = document.createElement("table");
    table.innerHTML = ["num", "den", "log_scale", "weighted average", "recurrence", "difference"].map((name) =>
      `<tr><th scope="row">${name}</th><td data-name="${name}"></td></tr>`).join("");
    drawn.caption = table.createCaption();
    root.appendChild(table);
    drawn.table = table;
  }

  function draw() {
    const { w, u, k, v, t } = model;
    const weight = weights(w, u, k, t), line = average(w, u, k, v), { out, states } = recurrence(w, u, k, v);
    drawn.cursor.setAttribute("x1", x(t));
    drawn.cursor.setAttribute("x2", x(t));
    drawn.title.textContent = `weights in the output at t = ${t} (orange: the token itself)`;
    const zero = keyY(0);
    for (let i = 0; i < T; i++) {
      const y = keyY(k[i]), height = (weight[i] || 0) * (PANEL.weights[1] - PANEL.weights[0]);
      drawn.stems[i].setAttribute("y", Math.min(y, zero));
      drawn.stems[i].setAttribute("height", Math.abs(y - zero));
      drawn.handles[i].setAttribute("cy", y);
      drawn.handles[i].setAttribute("aria-valuenow", k[i].toFixed(2));
      drawn.bars[i].setAttribute("class", i === t ? "now" : "past");
      drawn.bars[i].setAttribute("y", PANEL.weights[1] - height);
      drawn.bars[i].setAttribute("height", height);
      drawn.circles[i].setAttribute("cy", outY(out[i]));
    }
    drawn.line.setAttribute("points", line.map((y, i) => `${x(i)},${outY(y)}`).join(" "));
    for (const name in drawn.inputs) {
      drawn.inputs[name][0].value = model[name];
      drawn.inputs[name][1].textContent = String(model[name]).replace("-", "−");
    }
    drawn.caption.textContent = `The state before token ${t}, and the output there`;
    const cells = { num: states[t].num, den: states[t].den, log_scale: states[t].p,
      "weighted average": line[t], recurrence: out[t] };
    for (const name in cells) drawn.table.querySelector(`[data-name="${name}"]`).textContent = shown(cells[name]);
    drawn.table.querySelector('[data-name="difference"]').textContent = Math.abs(line[t] - out[t]).toExponential(0);
  }

  build();
  draw();
  window.wkvByHand = { weights, average, recurrence, model, draw, outY };
})();
