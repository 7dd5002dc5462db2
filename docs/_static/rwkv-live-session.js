// RWKV live, 3 of 4: a text that a model reads, with the states after its last bytes, and what a hand changes in them.
(function () {
  "use strict";
  const { initialState, initialLayer, step } = window.rwkvLive;
  const MEMORY = 2 ** 25;                     // bytes for the states of a text: at most 256 of them

  // Sampling, as rwkv_np.sampling does it: top-p looks at the probabilities before the temperature.

  function softmax(logits) {                  // (V,) -> (V,)
    const top = logits.reduce((a, b) => Math.max(a, b)), e = logits.map((x) => Math.exp(x - top));
    const sum = e.reduce((a, b) => a + b);
    return e.map((x) => x / sum);
  }

  const ranked = (p) => [...p.keys()].sort((i, j) => p[j] - p[i] || i - j);     // token ids, best first

  function sample(logits, temperature, topP = 0.9, random = Math.random) {
    const p = softmax(logits), order = ranked(p);
    if (temperature === 0) return order[0];
    let kept = 0, sum = 0;
    while (kept < order.length && sum < topP) sum += p[order[kept++]];
    const q = softmax(Float64Array.from(order.slice(0, kept), (token) => logits[token] / temperature));
    let u = random(), i = 0;
    while (i < kept - 1 && (u -= q[i]) > 0) i++;
    return order[i];
  }

  class Session {
    constructor(model, frozen) {              // frozen: {layer: Set of channels}, shared by the texts of a page
      this.model = model;
      this.frozen = frozen;
      this.bytes = [];                        // the text
      this.now = this.goal = 0;               // how many of them have been read, and are to be read
      this.snapshots = new Map([[0, { state: initialState(model), logits: null }]]);      // after so many bytes
      const size = model.layers.length * model.width * (model.generation === 4 ? 24 : 8 * model.N);
      this.keep = Math.max(16, Math.min(256, Math.floor(MEMORY / size)));
    }

    get current() { return this.snapshots.get(this.now); }
    get oldest() { return this.snapshots.keys().next().value; }

    setText(bytes) {                          // go back to where the texts part; what follows is unread
      let same = 0;
      while (same < bytes.length && same < this.bytes.length && bytes[same] === this.bytes[same]) same++;
      this.bytes = [...bytes];
      this.forgetAfter(same);
      this.moveTo(Math.min(this.now, same));
      this.goal = bytes.length;
    }

    readOne() {                               // -> whether there was a byte to read
      if (this.now === this.goal) return false;
      const { state } = this.current;
      if (!this.snapshots.has(this.now + 1)) {
        const next = step(this.model, this.bytes[this.now], state);
        this.hold(state, next.state);
        this.snapshots.set(this.now + 1, next);
        if (this.snapshots.size > this.keep) this.snapshots.delete(this.oldest);
      }
      this.now++;
      return true;
    }

    writeOne(temperature) {                   // what follows `now` is replaced
      const { logits } = this.current;
      if (!logits) return false;
      this.bytes.length = this.now;
      this.forgetAfter(this.now);
      this.goal = this.bytes.push(sample(logits, temperature));
      return this.readOne();
    }

    moveTo(position) {                        // in time; what is no longer kept is read again from the start
      this.now = this.goal = position;
      while (this.now > 0 && !this.snapshots.has(this.now)) this.now--;
      if (!this.snapshots.has(this.now)) this.restart();
      this.goal = position;
    }

    restart() {                               // as if nothing had been changed by hand
      this.snapshots = new Map([[0, { state: initialState(this.model), logits: null }]]);
      this.now = 0;
      this.goal = this.bytes.length;
    }

    forgetAfter(position) {
      for (const key of [...this.snapshots.keys()]) if (key > position) this.snapshots.delete(key);
      if (!this.snapshots.size) this.restart();
    }

    // By hand. The logits of the byte just read are out; a change shows from the next byte on.

    replaceState(state) {
      this.snapshots.set(this.now, { ...this.current, state });
      this.forgetAfter(this.now);
    }

    clearLayer(layer) {
      this.replaceState(this.current.state.map((old, l) => (l === layer ? initialLayer(this.model) : old)));
    }

    static swapStates(a, b) {
      const [ofA, ofB] = [a.current.state, b.current.state];
      a.replaceState(ofB);
      b.replaceState(ofA);
    }

    hold(before, after) {                     // a frozen channel keeps its past; `after` is new, and written to
      for (const [layer, channels] of Object.entries(this.frozen)) {
        const { attShift, ffnShift, ...memory } = before[layer];
        for (const name in memory) {          // (D,) or, in RWKV-7, (D, N): a row of a head's matrix
          const n = memory[name].length / this.model.width;
          for (const c of channels) after[layer][name].set(memory[name].subarray(c * n, (c + 1) * n), c * n);
        }
      }
    }
  }

  Object.assign(window.rwkvLive, { Session, softmax, ranked, sample });
})();
