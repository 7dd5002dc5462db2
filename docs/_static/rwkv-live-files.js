// RWKV live, 1 of 4: the .safetensors file, read without a library.
(function () {
  "use strict";

  // A file: 8 bytes, the length of the header; the header, JSON; the arrays, row by row.
  // https://github.com/huggingface/safetensors/blob/v0.6.2/README.md#format

  function readSafetensors(buffer) {          // ArrayBuffer -> {arrays: {name: Float32Array with .shape}, strings}
    const length = buffer.byteLength < 8 ? Infinity : Number(new DataView(buffer).getBigUint64(0, true));
    if (8 + length > buffer.byteLength) throw new Error("this is not a whole .safetensors file");
    let header;
    try {
      header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
    } catch {
      throw new Error("this is not a .safetensors file: its header is not JSON");
    }
    const { __metadata__: strings = {}, ...entries } = header, arrays = {};
    for (const [name, { dtype, shape, data_offsets: [start, stop] }] of Object.entries(entries)) {
      const size = shape.reduce((a, b) => a * b, 1), convert = DTYPES[dtype];
      if (!convert) throw new Error(`${name} is ${dtype} but must be one of ${Object.keys(DTYPES).join(", ")}`);
      if (8 + length + stop > buffer.byteLength) throw new Error(`the file ends before ${name} does`);
      arrays[name] = convert(buffer.slice(8 + length + start, 8 + length + stop));
      const { length: found } = arrays[name];
      if (found !== size) throw new Error(`${name} has ${found} floats but must have ${size}`);
      arrays[name].shape = shape;
    }
    return { arrays, strings };
  }

  const DTYPES = {
    F64: (bytes) => Float32Array.from(new Float64Array(bytes)),
    F32: (bytes) => new Float32Array(bytes),
    F16: (bytes) => Float32Array.from(new Uint16Array(bytes), (half) => float16()[half]),
    BF16: (bytes) => new Float32Array(Uint32Array.from(new Uint16Array(bytes), (half) => half << 16).buffer),
  };

  let table;                                  // (65536,), the value of every float16; made when it is first needed
  function float16() {
    return table ??= Float32Array.from({ length: 65536 }, (_, bits) => {
      const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
      if (exponent === 31) return fraction ? NaN : sign * Infinity;
      return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
    });
  }

  // Weights travel as base64 in a script, because a page that is opened from disk may load scripts, but no other files.

  const received = {}, folder = (document.currentScript.src || "").replace(/[^/]*$/, "");

  function receive(name, base64) {            // called by the script rwkv-live-NAME.js
    received[name] = base64;
  }

  async function loadWeights(name) {          // -> ArrayBuffer
    if (!received[name]) {
      await new Promise((done, failed) => {
        const script = Object.assign(document.createElement("script"), { src: `${folder}rwkv-live-${name}.js` });
        script.onload = done;
        script.onerror = () => failed(new Error(`${script.src} is missing`));
        document.head.append(script);
      });
    }
    const text = atob(received[name]), bytes = new Uint8Array(text.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes.buffer;
  }

  window.rwkvLive = { readSafetensors, receive, loadWeights, offered: [] };
})();
