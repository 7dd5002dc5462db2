// Cells that run in the book. Only pages of a book made by `make docs-live` load this file; opened from disk, where a
// browser may not fetch other files, they stay as they are. One worker runs all cells of the page, in order.

(() => {
  const script = document.currentScript;
  const { first, drawing } = script.dataset;                // megabytes
  const able = location.protocol.startsWith("http") && window.Worker && window.DecompressionStream && window.WebAssembly;
  if (!able) return;

  let worker = null;            // made at the first run; ended by Stop
  let queue = [];               // the first cell is running, the others wait
  const make = (name, attributes = {}, ...children) => {
    const element = Object.assign(document.createElement(name), attributes);
    element.append(...children);
    return element;
  };
  const button = (text, title, onclick) => make("button", { type: "button", textContent: text, title, onclick });

  function source(code) {       // innerText would be empty where the cell is folded, textContent lacks <br>
    const copy = code.cloneNode(true);
    copy.querySelectorAll("br").forEach((line) => line.replaceWith("\n"));
    return copy.textContent;
  }

  function makeCell(element, index) {
    const code = element.querySelector(".cell_input pre");
    const cell = { index, code, original: code.innerHTML, hasRun: false, pictures: [] };
    code.contentEditable = "plaintext-only";
    if (code.contentEditable !== "plaintext-only") code.contentEditable = "true";
    Object.assign(code, { spellcheck: false, autocapitalize: "off" });
    const attributes = { role: "textbox", "aria-multiline": "true", "aria-label": `Code of cell ${index + 1}` };
    for (const [name, value] of Object.entries(attributes)) code.setAttribute(name, value);
    code.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      if (event.shiftKey || event.ctrlKey || event.metaKey) { if (!queue.length) run(index); return; }
      const before = getSelection().getRangeAt(0).cloneRange();
      before.setStart(code, 0);
      const [indent] = source(before.cloneContents()).split("\n").pop().match(/^ */);
      document.execCommand("insertText", false, `\n${indent}`);
    });
    code.addEventListener("input", () => { cell.reset.hidden = false; });

    cell.run = button("▶ Run", "Run this cell, and those above that have not run yet (Shift+Enter)", () => run(index));
    cell.stop = button("■ Stop", "End Python; its variables are lost", stop);
    cell.reset = button("Reset", "Show the code as it was", () => {
      code.innerHTML = cell.original;
      cell.reset.hidden = true;
    });
    cell.stop.hidden = cell.reset.hidden = true;
    cell.status = make("span", { className: "live-status", role: "status" });
    cell.output = make("div", { className: "live-output", hidden: true });
    const bar = make("div", { className: "live-bar" }, cell.run, cell.stop, cell.reset, cell.status);
    const stored = element.querySelector(":scope > .cell_output, :scope > details.below-input, :scope > details.above-output");
    element.insertBefore(bar, stored);
    element.insertBefore(cell.output, stored);
    if (stored) stored.classList.add("live-stored");
    return cell;
  }

  function addText(cell, className, text) {
    let last = cell.output.lastElementChild;
    if (!last || last.className !== className) cell.output.append(last = make("pre", { className }));
    last.append(text);
  }

  function addPicture(cell, png) {
    const src = URL.createObjectURL(new Blob([png], { type: "image/png" }));
    cell.pictures.push(src);
    cell.output.append(make("img", { src, alt: `The picture that cell ${cell.index + 1} drew` }));
  }

  function receive({ data: { kind, content } }) {
    const cell = queue[0];
    if (!cell) return;
    if (kind === "status") showStatus(`${content} …`);
    else if (kind === "done") finish(cell, content);
    else {
      cell.output.hidden = false;
      if (kind === "picture") addPicture(cell, content); else addText(cell, `live-${kind}`, content);
    }
  }

  function run(last) {
    queue = cells.slice(0, last + 1).filter((cell) => cell.index === last || !cell.hasRun);
    showQueue();
    next();
  }

  function next() {
    if (!queue.length) return showQueue();
    const [cell] = queue;
    if (!worker) {
      worker = new Worker(new URL("worker.js", script.src));
      worker.onmessage = receive;
      worker.onerror = (event) => {
        const reason = event.message || "its files could not be loaded";
        receive({ data: { kind: "stderr", content: `Python ended: ${reason}\n` } });
        receive({ data: { kind: "done", content: false } });
        end();
      };
    }
    cell.pictures.forEach((src) => URL.revokeObjectURL(src));
    cell.pictures = [];
    cell.output.replaceChildren();
    cell.output.hidden = true;
    cell.output.classList.remove("live-failed");
    cell.began = performance.now();
    showQueue();
    showStatus("Running …");
    worker.postMessage({ number: cell.index + 1, source: source(cell.code) });
  }

  function finish(cell, succeeded) {
    const seconds = ((performance.now() - cell.began) / 1000).toFixed(1);
    cell.hasRun = succeeded;
    cell.output.classList.toggle("live-failed", !succeeded);
    cell.status.textContent = succeeded ? `Ran here in ${seconds} s` : "Stopped at this error";
    queue = succeeded ? queue.slice(1) : [];
    next();
  }

  function end() {
    worker?.terminate();
    worker = null;
    for (const cell of cells) {
      if (cell.hasRun) cell.status.textContent += "; its variables are gone";
      cell.hasRun = false;
    }
  }

  function stop() {
    const [cell] = queue;
    queue = [];
    end();
    if (cell) cell.status.textContent = "Stopped. The variables are gone; Run begins with the first cell.";
    showQueue();
  }

  function showStatus(text) {
    queue.forEach((cell, place) => {
      cell.status.textContent = place ? `Waiting for cell ${queue[0].index + 1}: ${text}` : text;
    });
  }

  function showQueue() {
    for (const cell of cells) {
      cell.run.disabled = queue.length > 0;
      cell.stop.hidden = !queue.includes(cell);
      if (cell.stop.hidden && cell.status.textContent.startsWith("Waiting")) cell.status.textContent = "";
    }
    runAll.disabled = queue.length > 0;
  }

  const elements = [...document.querySelectorAll("article .cell")].filter((cell) => cell.querySelector(".cell_input pre"));
  const cells = elements.map(makeCell);
  const runAll = button("▶ Run all", "Run every cell of this page", () => {
    cells.forEach((cell) => { cell.hasRun = false; });
    run(cells.length - 1);
  });
  document.querySelector("article h1").after(make("div", { className: "live-bar live-intro" }, runAll, make("span", {
    textContent: `The cells of this page run here, in your browser, and can be edited. The first run loads Python and
      NumPy, ${first} MB, and the first picture ${drawing} MB more. Nothing is sent anywhere.` })));
})();
