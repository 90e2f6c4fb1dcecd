/* The frame of attnkit's explorers: what runs in a page, a notebook and Colab, without a kernel and without a network.

   CONTRACT (ES2019, a classic script; no modules, no fetch; Node can load it for its mathematics)

   attnkitExplorer.register(kind, {initial, compute, draw})        one file a kind: explorers/<kind>.js
     initial(spec) -> state     what the controls say at first; a plain JSON object
     compute(spec, state) -> result    pure; no DOM, so Node tests it. Called after each change of state
     draw(view) -> update(result, state)    builds the DOM below view.el once; `update` follows each change.
        Return nothing when the bound controls say all.
   spec   plain JSON from Python; its packed arrays ({dtype, shape, data: base64}) arrive as
          {shape, data: Float32Array}: see math.unpack.
   view   .el         where to draw (a div)            .spec  .state  (read only)     .ui  .math
          .set(patch)           changes the state, computes once a frame, updates
          .bind(key, control)   keeps a control and state[key] the same; returns the control
          .live                 the line that `announce` writes to; put it where it reads best (else it comes last)
          .announce(text)       says it to a screen reader, at most every 150 ms
          .twoViews(picture, table)   a "Show as table" box, bound to state.table, that swaps the two (elements or
                                      controls); returns the box, for the row of controls
          .onCleanup(function)
   ui     see explorer_ui.js: h, svg, row, range, select, check, number, text, button, output, fold, heat, grid, chart
   math   unpack, softmaxRows, matmul, matmulT, colour, inkOn, fixed

   attnkitExplorer.render({model, el}) is anywidget's contract: model has get, set, on, off, save_changes, with the keys
   kind, title, spec, state. Static hosts, written by attnkit.viz.Explorer, are found by `hydrate`:
     <div class="ak-explorer" data-ak-kind="matrix" [data-ak-version=...]> <script type="application/json">
     {kind, title, spec, state} </script> <div class="ak-fallback">...</div> </div>
   They come alive when their kind registers; the fallback stays for print and for readers without scripts.

   In a kind's file:   (function (ak) { ak.register("name", {...}); })(globalThis.attnkitExplorer);
*/
(function (root) {
  "use strict";
  const VERSION = "@VERSION@"; // attnkit.viz.explorer puts the hash of all scripts here
  const versions = (root.attnkitExplorers = root.attnkitExplorers || {});
  if (versions[VERSION]) {
    root.attnkitExplorer = versions[VERSION];
    return;
  }
  const kinds = {};
  const page = root.document;

  /* ---------- mathematics ---------- */

  function bytes(base64) {
    const text = root.atob(base64), out = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
    return out;
  }

  function halfToFloat(h) {
    const sign = h & 0x8000 ? -1 : 1, exponent = (h >> 10) & 31, fraction = h & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  function little(raw, size) { // typed arrays need aligned bytes
    return raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length - (raw.length % size));
  }

  /* A packed array, or a nest of objects and lists that holds some, with Float32Array in their places. */
  function unpack(value) {
    if (Array.isArray(value)) return value.map(unpack);
    if (value === null || typeof value !== "object") return value;
    if (typeof value.data === "string" && Array.isArray(value.shape) && value.dtype) {
      const raw = bytes(value.data);
      let data;
      if (value.dtype === "float32") data = new Float32Array(little(raw, 4));
      else if (value.dtype === "float16") data = Float32Array.from(new Uint16Array(little(raw, 2)), halfToFloat);
      else if (value.dtype === "bool") data = raw;
      else throw new Error("packed array: dtype was " + value.dtype + "; it should be float32, float16 or bool");
      return { shape: value.shape, data };
    }
    const out = {};
    for (const key of Object.keys(value)) out[key] = unpack(value[key]);
    return out;
  }

  /* Row by row softmax of scores (rows x columns, flat). A row of -Infinity alone gives zeros, not NaN. */
  function softmaxRows(scores, rows, columns) {
    const out = new Float64Array(rows * columns);
    for (let i = 0; i < rows; i++) {
      const start = i * columns;
      let most = -Infinity, sum = 0;
      for (let j = 0; j < columns; j++) if (scores[start + j] > most) most = scores[start + j];
      if (most === -Infinity) continue;
      for (let j = 0; j < columns; j++) sum += out[start + j] = Math.exp(scores[start + j] - most);
      for (let j = 0; j < columns; j++) out[start + j] /= sum;
    }
    return out;
  }

  /* a (n x m) times b (m x p), flat arrays, summed in float64. `at` and `bt` are where the matrices begin. */
  function matmul(a, b, n, m, p, at, bt) {
    const out = new Float64Array(n * p), a0 = at || 0, b0 = bt || 0;
    for (let i = 0; i < n; i++) for (let k = 0; k < m; k++) {
      const x = a[a0 + i * m + k];
      if (x === 0) continue; // what has no weight adds nothing, even if it is not finite
      for (let j = 0; j < p; j++) out[i * p + j] += x * b[b0 + k * p + j];
    }
    return out;
  }

  /* a (n x m) times the transpose of b (p x m). */
  function matmulT(a, b, n, m, p, at, bt) {
    const out = new Float64Array(n * p), a0 = at || 0, b0 = bt || 0, whole = m - m % 4;
    for (let i = 0; i < n; i++) for (let j = 0; j < p; j++) {
      let x = a0 + i * m, y = b0 + j * m, s = 0, t = 0, u = 0, v = 0, k = 0;
      for (; k < whole; k += 4, x += 4, y += 4) { // four sums at a time take half as long as one
        s += a[x] * b[y];
        t += a[x + 1] * b[y + 1];
        u += a[x + 2] * b[y + 2];
        v += a[x + 3] * b[y + 3];
      }
      for (; k < m; k++, x++, y++) s += a[x] * b[y];
      out[i * p + j] = s + t + u + v;
    }
    return out;
  }

  // Matplotlib's cividis, sampled at 33 places: the same blue to yellow for every kind of colour vision.
  const CIVIDIS = "00224e00285b002e6a0533711a386f273e6e32436d3b496c434e6c4b546c535a6d5a5f6e61656f686a716f707376767" +
    "67d7c788482798c8878938e789b9476a39a74aba072b4a76fbcae6cc4b468cdbb63d5c25edec958e7d150f0d846f9e03afee838";
  const STOPS = [];
  for (let i = 0; i < CIVIDIS.length; i += 6) {
    STOPS.push([0, 2, 4].map((k) => parseInt(CIVIDIS.substr(i + k, 2), 16)));
  }

  /* [r, g, b], each 0 to 255, for x from 0 to 1. */
  function colour(x) {
    const place = Math.min(Math.max(x, 0), 1) * (STOPS.length - 1), i = Math.min(Math.floor(place), STOPS.length - 2);
    return STOPS[i].map((c, k) => Math.round(c + (place - i) * (STOPS[i + 1][k] - c)));
  }

  /* Black or white, whichever has the greater contrast (WCAG 2.2) on that ground. */
  function inkOn(rgb) {
    const part = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2] > 0.179 ? "#000000" : "#ffffff";
  }

  /* A number as text: `digits` after the point, a true minus sign, no minus before zeros. */
  function fixed(x, digits) {
    if (x === Infinity) return "∞";
    if (x === -Infinity) return "−∞";
    if (Number.isNaN(x)) return "not a number";
    const text = Math.abs(x) >= 1e6 ? x.toPrecision(4) : x.toFixed(digits === undefined ? 2 : digits);
    return text.replace(/^-(?=[0.]*$)/, "").replace("-", "−");
  }

  /* ---------- models ---------- */

  /* The part of anywidget's model that we use, over a plain object. */
  function staticModel(values) {
    const listeners = {};
    return {
      get: (key) => values[key],
      set(key, value) {
        values[key] = value;
        (listeners["change:" + key] || []).slice().forEach((f) => f());
      },
      on(name, f) { (listeners[name] = listeners[name] || []).push(f); },
      off(name, f) { listeners[name] = (listeners[name] || []).filter((g) => g !== f); },
      save_changes() {},
    };
  }

  /* ---------- a view: one explorer in the page ---------- */

  function makeView(model, kind, el, live) {
    const spec = unpack(model.get("spec") || {}), ui = api.ui, cleanups = [], bound = {};
    let state = Object.assign({}, kind.initial(spec), model.get("state") || {});
    let update = null, frame = 0, said = 0, timer = 0, own = false;
    const view = {
      el, spec, live, ui, math: api.math,
      get state() { return state; },
      set(patch) {
        state = Object.assign({}, state, patch);
        own = true;
        model.set("state", state);
        own = false;
        if (!frame) frame = root.requestAnimationFrame(draw);
      },
      bind(key, control) {
        bound[key] = control;
        control.set(state[key]);
        control.onInput((value) => view.set({ [key]: value }));
        return control;
      },
      announce(text) {
        root.clearTimeout(timer);
        timer = root.setTimeout(() => { said = Date.now(); live.textContent = text; },
          Math.max(0, 150 - (Date.now() - said)));
      },
      twoViews(picture, table) {
        const box = view.bind("table", ui.check({ label: "Show as table" })), both = [picture, table].map(ui.element);
        const swap = () => both.forEach((e, i) => { e.hidden = Boolean(state.table) !== Boolean(i); });
        swap();
        swaps.push(swap);
        return box;
      },
      onCleanup(f) { cleanups.push(f); },
    };
    const swaps = [];
    function draw() {
      frame = 0;
      for (const key of Object.keys(bound)) bound[key].set(state[key]);
      swaps.forEach((f) => f());
      if (update) update(kind.compute(spec, state), state);
      model.save_changes();
    }
    function fromOutside() {
      if (own) return;
      state = Object.assign({}, state, model.get("state"));
      draw();
    }
    own = true;
    model.set("state", state); // so that a kernel knows what the controls say
    own = false;
    ui.collect = cleanups;
    try {
      update = kind.draw(view) || null;
    } finally {
      ui.collect = null;
    }
    model.on("change:state", fromOutside);
    draw();
    cleanups.push(() => { if (model.off) model.off("change:state", fromOutside); });
    return () => { root.cancelAnimationFrame(frame); root.clearTimeout(timer); cleanups.forEach((f) => f()); };
  }

  /* Draw the model below el. Returns what takes it away again. */
  function render(context) {
    const model = context.model, el = context.el, name = model.get("kind"), kind = kinds[name], h = api.ui.h;
    if (!kind) throw new Error("explorer: kind was " + name + "; loaded are " + Object.keys(kinds).join(", "));
    api.ui.style(el);
    el.classList.add("ak-explorer");
    const title = model.get("title"), body = h("div", { class: "ak-body" });
    const live = h("div", { class: "ak-live", role: "status", "aria-live": "polite" });
    const frame = h("div", { class: "ak-frame", role: "group", "aria-label": title || "Explorer: " + name },
      title ? h("div", { class: "ak-title" }, title) : null, body, live);
    el.appendChild(frame);
    const stop = makeView(model, kind, body, live);
    return () => { stop(); frame.remove(); };
  }

  /* Bring the static hosts of the registered kinds to life. A host that names another version is not ours. */
  function hydrate() {
    if (!page) return;
    page.querySelectorAll(".ak-explorer[data-ak-kind]:not([data-ak-alive]):not([data-ak-broken])").forEach((host) => {
      const wanted = host.getAttribute("data-ak-version");
      if (!kinds[host.getAttribute("data-ak-kind")] || (wanted && wanted !== VERSION)) return;
      const data = host.querySelector("script[type='application/json']");
      if (!data) return;
      host.setAttribute("data-ak-alive", "");
      try {
        render({ model: staticModel(JSON.parse(data.textContent)), el: host });
      } catch (error) { // the fallback stays in sight
        host.removeAttribute("data-ak-alive");
        host.setAttribute("data-ak-broken", String(error));
        host.querySelectorAll(".ak-frame").forEach((e) => e.remove());
        root.console.error(error);
      }
    });
  }

  function register(name, kind) {
    for (const part of ["initial", "compute", "draw"]) {
      if (typeof kind[part] !== "function") throw new Error("register " + name + ": " + part + " should be a function");
    }
    if (!kinds[name]) kinds[name] = kind;
    if (api.ui) hydrate();
  }

  const api = {
    version: VERSION, kinds, register, render, hydrate, staticModel, ui: null,
    math: { unpack, softmaxRows, matmul, matmulT, colour, inkOn, fixed },
  };
  versions[VERSION] = root.attnkitExplorer = api;
})(globalThis);
