// RWKV live, 2 of 4: RWKV-4 and RWKV-7 as RNNs. One token and a state in, logits and a new state out.
//
// D channels, H heads of N channels, F width of channel mixing, R low ranks, V vocabulary. Weights are float32,
// all else is float64. The same equations in Python: time_mixing_step and channel_mixing_step in rwkv_np/rwkv4.py and
// rwkv7.py.
(function () {
  "use strict";

  function map(x, f) {                        // a loop, because Float64Array.from is ten times slower
    const y = new Float64Array(x.length);
    for (let i = 0; i < y.length; i++) y[i] = f(x[i], i);
    return y;
  }

  const add = (x, y) => map(x, (a, i) => a + y[i]);
  const multiply = (x, y) => map(x, (a, i) => a * y[i]);
  const sigmoid = (x) => map(x, (a) => 1 / (1 + Math.exp(-a)));
  const squaredRelu = (x) => map(x, (a) => Math.max(a, 0) ** 2);

  function linear(x, weight) {                // x: (I,), weight: (O, I) -> weight x: (O,)
    const n = x.length, y = new Float64Array(weight.length / n);
    for (let o = 0, row = 0; o < y.length; o++, row += n) {
      let a = 0, b = 0, c = 0, d = 0, i = 0;  // four sums, which the processor adds up side by side
      for (; i + 3 < n; i += 4) {
        a += weight[row + i] * x[i];
        b += weight[row + i + 1] * x[i + 1];
        c += weight[row + i + 2] * x[i + 2];
        d += weight[row + i + 3] * x[i + 3];
      }
      for (; i < n; i++) a += weight[row + i] * x[i];
      y[o] = a + b + c + d;
    }
    return y;
  }

  function linearIO(x, weight) {              // x: (I,), weight: (I, O), as low-rank maps are stored -> x weight: (O,)
    const y = new Float64Array(weight.length / x.length);
    for (let i = 0, j = 0; i < x.length; i++) for (let o = 0; o < y.length; o++) y[o] += x[i] * weight[j++];
    return y;
  }

  function normalise(x, epsilon) {            // (N,) -> (N,), mean 0 and variance 1
    const mean = x.reduce((a, b) => a + b, 0) / x.length;
    const std = Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length + epsilon);
    return map(x, (a) => (a - mean) / std);
  }

  function layerNorm(x, { weight, bias }) {   // (D,) -> (D,)
    return add(multiply(normalise(x, 1e-5), weight), bias);
  }

  function groupNorm(x, N, weight, bias, epsilon) {       // (H N,) -> (H N,), each head by itself
    const y = new Float64Array(x.length);
    for (let h = 0; h < x.length; h += N) y.set(normalise(x.subarray(h, h + N), epsilon), h);
    return add(multiply(y, weight), bias);
  }

  // RWKV-4: each channel carries a weighted average of its values, whose weights fade.

  const rwkv4 = {
    initialMemory: (D) => ({ num: new Float64Array(D), den: new Float64Array(D),
      logScale: new Float64Array(D).fill(-Infinity) }),

    wkv(w, u, k, v, { num, den, logScale }) { // all (D,) -> out: (D,), and the memory one token later
      const out = new Float64Array(k.length), next = rwkv4.initialMemory(k.length);
      for (let c = 0; c < k.length; c++) {
        let q = Math.max(logScale[c], u[c] + k[c]);                             // the larger of the two scales
        let ePast = Math.exp(logScale[c] - q), eNow = Math.exp(u[c] + k[c] - q);
        out[c] = (ePast * num[c] + eNow * v[c]) / (ePast * den[c] + eNow);
        q = Math.max(logScale[c] - w[c], k[c]);
        ePast = Math.exp(logScale[c] - q - w[c]);
        eNow = Math.exp(k[c] - q);
        next.num[c] = ePast * num[c] + eNow * v[c];
        next.den[c] = ePast * den[c] + eNow;
        next.logScale[c] = q;
      }
      return [out, next];
    },

    timeMixing(x, xPrev, memory, p) {         // x, xPrev: (D,)
      const mix = (mu) => map(x, (a, i) => xPrev[i] + mu[i] * (a - xPrev[i]));
      const r = linear(mix(p.time_mix_r), p.receptance);                        // (D,)
      const k = linear(mix(p.time_mix_k), p.key);                               // (D,)
      const v = linear(mix(p.time_mix_v), p.value);                             // (D,)
      const [average, next] = rwkv4.wkv(map(p.time_decay, Math.exp), p.time_first, k, v, memory);
      return [linear(multiply(sigmoid(r), average), p.output), next];           // (D,)
    },

    channelMixing(x, xPrev, p) {              // x, xPrev: (D,)
      const mix = (mu) => map(x, (a, i) => xPrev[i] + mu[i] * (a - xPrev[i]));
      const r = linear(mix(p.time_mix_r), p.receptance);                        // (D,)
      const k = linear(mix(p.time_mix_k), p.key);                               // (F,)
      return multiply(sigmoid(r), linear(squaredRelu(k), p.value));             // (D,)
    },
  };

  // RWKV-7: each head carries a matrix S[value, key] that fades, is corrected, and is written to.

  const rwkv7 = {
    initialMemory: (D, N) => ({ wkv: new Float64Array(D * N) }),                // (H, N, N)

    wkv(r, w, k, v, a, b, { wkv: S }, N) {    // S <- S (diag(w) + a b^T) + v k^T;  out = S r
      const out = new Float64Array(r.length), next = new Float64Array(S.length);
      for (let m = 0; m < r.length; m++) {    // row m of all heads' matrices: a value channel
        const row = m * N, h = m - (m % N);   // where the row, and the head's channels, begin
        let sa = 0;
        for (let n = 0; n < N; n++) sa += S[row + n] * a[h + n];                // read before the decay
        for (let n = 0; n < N; n++) {
          next[row + n] = S[row + n] * w[h + n] + sa * b[h + n] + v[m] * k[h + n];
          out[m] += next[row + n] * r[h + n];
        }
      }
      return [out, { wkv: next }];
    },

    timeMixing(x, xPrev, memory, p, vFirst) { // x, xPrev, vFirst: (D,)
      const mix = (mu) => map(x, (a, i) => a + mu[i] * (xPrev[i] - a));         // mu: the share of the previous token
      const N = p.r_k.shape[1];
      const r = linear(mix(p.x_r), p.receptance);                               // (D,)
      const k0 = linear(mix(p.x_k), p.key);                                     // (D,)
      let v = linear(mix(p.x_v), p.value);                                      // (D,)
      if (vFirst) {
        const nu = sigmoid(add(p.v0, linearIO(linearIO(mix(p.x_v), p.v1), p.v2)));
        v = map(v, (own, i) => own + nu[i] * (vFirst[i] - own));
      }
      const s = sigmoid(add(p.w0, linearIO(map(linearIO(mix(p.x_w), p.w1), Math.tanh), p.w2)));
      const w = map(s, (a) => Math.exp(-Math.exp(-0.5) * a));                   // (D,), the decay
      const alpha = sigmoid(add(p.a0, linearIO(linearIO(mix(p.x_a), p.a1), p.a2)));         // (D,)
      const g = linearIO(sigmoid(linearIO(mix(p.x_g), p.g1)), p.g2);            // (D,), the gate
      const kappa = rwkv7.unit(multiply(k0, p.k_k), N);                         // (D,), the key of the removal
      const k = map(k0, (a, i) => a * (1 + (alpha[i] - 1) * p.k_a[i]));         // (D,)
      const [out, next] = rwkv7.wkv(r, w, k, v, map(kappa, (a) => -a), multiply(kappa, alpha), memory, N);
      const z = groupNorm(out, N, p.ln_x, p.ln_x_bias, p.epsilon);              // (D,)
      for (let h = 0; h < z.length; h += N) { // the token once more, outside the norm
        let rk = 0;
        for (let n = h; n < h + N; n++) rk += r[n] * k[n] * p.r_k[n];
        for (let n = h; n < h + N; n++) z[n] += rk * v[n];
      }
      return [linear(multiply(z, g), p.output), next, vFirst || v];             // (D,)
    },

    unit(x, N) {                              // (H N,) -> (H N,), each head of length 1
      const y = new Float64Array(x.length);
      for (let h = 0; h < x.length; h += N) {
        const head = x.subarray(h, h + N), length = Math.sqrt(head.reduce((a, b) => a + b * b, 0));
        y.set(map(head, (a) => a / Math.max(length, 1e-12)), h);
      }
      return y;
    },

    channelMixing(x, xPrev, p) {              // x, xPrev: (D,)
      const k = linear(map(x, (a, i) => a + p.x_k[i] * (xPrev[i] - a)), p.key); // (F,)
      return linear(squaredRelu(k), p.value);                                   // (D,)
    },
  };

  // The language model: embedding -> blocks -> head.

  function step(model, token, state) {        // -> logits: (V,), state: a new one
    const D = model.D, next = [];
    let x = layerNorm(model.emb.subarray(token * D, (token + 1) * D), model.ln0), vFirst = null;        // (D,)
    model.layers.forEach(({ ln1, att, ln2, ffn }, layer) => {
      const { attShift, ffnShift, ...memory } = state[layer];
      const x1 = layerNorm(x, ln1);
      const [y, nextMemory, v] = model.kind.timeMixing(x1, attShift, memory, att, vFirst);
      x = add(x, y);
      const x2 = layerNorm(x, ln2);
      x = add(x, model.kind.channelMixing(x2, ffnShift, ffn));
      vFirst = v;
      next.push({ attShift: x1, ffnShift: x2, ...nextMemory });
    });
    return { logits: linear(layerNorm(x, model.lnOut), model.head), state: next };
  }

  function initialLayer(model) {              // what a layer remembers before the first token
    return { attShift: new Float64Array(model.D), ffnShift: new Float64Array(model.D),
      ...model.kind.initialMemory(model.width, model.N) };
  }

  const initialState = (model) => model.layers.map(() => initialLayer(model));

  function loadModel(buffer) {                // the bytes of a .safetensors file -> model
    const { arrays, strings } = window.rwkvLive.readSafetensors(buffer);
    const has = (name) => `blocks.0.att.${name}` in arrays;
    const generation = has("r_k") ? 7 : has("time_first") && !has("ln_x.weight") ? 4 : null;
    if (!generation) throw new Error("this file holds neither an RWKV-4 nor an RWKV-7 under the official names");
    if (arrays["emb.weight"].shape[0] !== 256) {
      throw new Error(`the vocabulary has ${arrays["emb.weight"].shape[0]} tokens but must be the 256 bytes`);
    }
    const tokenizer = JSON.parse(strings.tokenizer || "{}").kind ?? "bytes";
    if (tokenizer !== "bytes") throw new Error(`its tokens are not bytes, its tokenizer is of the kind ${tokenizer}`);
    const layers = [];
    for (const [name, array] of Object.entries(arrays)) {       // blocks.3.att.key.weight -> layers[3].att.key
      const [, n, group, keyword] = name.match(/^blocks\.(\d+)\.(ln\d|att|ffn)\.(.*)$/) || [];
      if (!group) continue;
      layers[n] ??= { ln0: {}, ln1: {}, att: {}, ln2: {}, ffn: {} };
      layers[n][group][group.startsWith("ln") ? keyword : keyword.replace(/\.weight$/, "").replace(".", "_")] = array;
    }
    const epsilon = JSON.parse(strings.metadata || strings.facts || "{}").group_norm_epsilon ?? 64e-5;
    for (const { att } of layers) att.epsilon = epsilon;
    const kind = { 4: rwkv4, 7: rwkv7 }[generation];
    return {
      generation, kind, layers, emb: arrays["emb.weight"], ln0: layers[0].ln0, head: arrays["head.weight"],
      lnOut: { weight: arrays["ln_out.weight"], bias: arrays["ln_out.bias"] },
      D: arrays["emb.weight"].shape[1], width: layers[0].att.key.shape[0],
      N: generation === 7 ? layers[0].att.r_k.shape[1] : 1,
      parameters: Object.values(arrays).reduce((n, array) => n + array.length, 0),
    };
  }

  Object.assign(window.rwkvLive, { loadModel, initialLayer, initialState, step });
})();
