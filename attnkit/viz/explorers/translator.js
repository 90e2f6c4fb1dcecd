/* A trained Transformer in the page: digits in, French words out, and every head's weights on the way.

   spec: config {d_model, d_hidden, heads, layers, eps}, weights by their Python names (packed), source and target: the
   token of each id, longest: how many tokens it writes at most, smoothing: of the labels in its training. The layers
   are post-norm, as attnkit.models.Translator with norm_first=False; vectors are rows, and a weight is (out, in), as in
   torch.nn.Linear. Everything is summed in float64. */
(function (ak) {
  "use strict";
  const math = ak.math, BOS = 1, EOS = 2, kept = new WeakMap();

  /* ---------- the model: pure functions of flat arrays ---------- */

  /* x (n rows) W^T + b */
  function linear(w, name, x, n) {
    const weight = w[name + ".weight"], bias = w[name + ".bias"], wide = weight.shape[0];
    const out = math.matmulT(x, weight.data, n, weight.shape[1], wide);
    if (bias) for (let i = 0; i < out.length; i++) out[i] += bias.data[i % wide];
    return out;
  }

  /* (x - mean) / sqrt(variance + eps) * weight + bias, row by row */
  function layerNorm(w, name, x, n, eps) {
    const d = x.length / n, weight = w[name + ".weight"].data, bias = w[name + ".bias"].data, out = new Float64Array(x.length);
    for (let i = 0; i < n; i++) {
      let mean = 0, variance = 0;
      for (let j = 0; j < d; j++) mean += x[i * d + j] / d;
      for (let j = 0; j < d; j++) variance += (x[i * d + j] - mean) ** 2 / d;
      const scale = 1 / Math.sqrt(variance + eps);
      for (let j = 0; j < d; j++) out[i * d + j] = (x[i * d + j] - mean) * scale * weight[j] + bias[j];
    }
    return out;
  }

  const plus = (a, b) => a.map((x, i) => x + b[i]);

  /* Rows of the table times sqrt(d), plus sin and cos of position / 10000^(2i/d), interleaved. */
  function embed(table, ids) {
    const d = table.shape[1], out = new Float64Array(ids.length * d);
    ids.forEach((id, p) => {
      for (let j = 0; j < d; j++) {
        const angle = p / 10000 ** ((j - j % 2) / d);
        out[p * d + j] = table.data[id * d + j] * Math.sqrt(d) + (j % 2 ? Math.cos(angle) : Math.sin(angle));
      }
    });
    return out;
  }

  /* Multi-head attention of x (n rows) to memory (m rows) -> {out, maps: one (n x m) table for each head} */
  function attend(w, name, x, n, memory, m, heads, causal) {
    const q = linear(w, name + ".query", x, n), k = linear(w, name + ".key", memory, m), v = linear(w, name + ".value", memory, m);
    const d = q.length / n, width = d / heads, joined = new Float64Array(n * d), maps = [];
    const head = (a, rows, h) => { // the columns of one head
      const out = new Float64Array(rows * width);
      for (let i = 0; i < rows; i++) for (let j = 0; j < width; j++) out[i * width + j] = a[i * d + h * width + j];
      return out;
    };
    for (let h = 0; h < heads; h++) {
      const scores = math.matmulT(head(q, n, h), head(k, m, h), n, width, m);
      for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) {
        scores[i * m + j] = causal && j > i ? -Infinity : scores[i * m + j] / Math.sqrt(width);
      }
      const weights = math.softmaxRows(scores, n, m), out = math.matmul(weights, head(v, m, h), n, m, width);
      for (let i = 0; i < n; i++) for (let j = 0; j < width; j++) joined[i * d + h * width + j] = out[i * width + j];
      maps.push(weights);
    }
    return { out: linear(w, name + ".out", joined, n), maps };
  }

  const feed = (w, name, x, n) => linear(w, name + ".down", linear(w, name + ".up", x, n).map((u) => Math.max(0, u)), n);

  /* source ids -> {memory, maps: by layer, by head} */
  function encode(spec, source) {
    const { weights: w, config: c } = spec, n = source.length, maps = [];
    let x = embed(w["source_embedding.weight"], source);
    for (let l = 0; l < c.layers; l++) {
      const at = "transformer.encoder.layers." + l, own = attend(w, at + ".attention", x, n, x, n, c.heads, false);
      x = layerNorm(w, at + ".norm_attention", plus(x, own.out), n, c.eps);
      x = layerNorm(w, at + ".norm_feed_forward", plus(x, feed(w, at + ".feed_forward", x, n)), n, c.eps);
      maps.push(own.maps);
    }
    return { memory: x, maps };
  }

  /* target ids, of which the first is BOS -> {logits (n x vocabulary), self, cross: maps by layer, by head} */
  function decode(spec, target, memory, m) {
    const { weights: w, config: c } = spec, n = target.length, table = w["target_embedding.weight"], self = [], cross = [];
    let x = embed(table, target);
    for (let l = 0; l < c.layers; l++) {
      const at = "transformer.decoder.layers." + l, own = attend(w, at + ".self_attention", x, n, x, n, c.heads, true);
      x = layerNorm(w, at + ".norm_self", plus(x, own.out), n, c.eps);
      const read = attend(w, at + ".cross_attention", x, n, memory, m, c.heads, false);
      x = layerNorm(w, at + ".norm_cross", plus(x, read.out), n, c.eps);
      x = layerNorm(w, at + ".norm_feed_forward", plus(x, feed(w, at + ".feed_forward", x, n)), n, c.eps);
      self.push(own.maps);
      cross.push(read.maps);
    }
    return { logits: math.matmulT(x, table.data, n, c.d_model, table.shape[0]), self, cross };
  }

  /* Greedy decoding; `forced` says at which steps (0, 1, ...) another token is written instead of the best. */
  function translate(spec, source, forced) {
    const read = encode(spec, source), m = source.length, size = spec.target.length, target = [BOS];
    for (;;) {
      const last = decode(spec, target, read.memory, m), step = target.length - 1;
      const row = last.logits.subarray(step * size), best = forced[step] === undefined ? row.indexOf(Math.max(...row)) : forced[step];
      if (best === EOS || step + 1 >= spec.longest) return { source, target, best, encoder: read.maps, ...last };
      target.push(best);
    }
  }

  /* ---------- state -> what is shown ---------- */

  function initial() {
    return { number: "371", step: 0, layer: 0, part: "cross", head: 0, row: 0, column: 0, forced: {}, table: false };
  }

  /* Why the text is no number that the model can read; "" if it is one. */
  function fault(text) {
    if (/^(0|[1-9][0-9]{0,5})$/.test(text)) return "";
    if (text === "") return "Type a number.";
    return /^0[0-9]+$/.test(text) ? "Leave out the leading zeros." : "It should be a whole number from 0 to 999999: digits only, no spaces.";
  }

  function outcome(spec, number, forced) {
    const known = kept.get(spec) || {}, key = number + JSON.stringify(forced);
    if (known.key !== key) {
      const ids = [...Array.from(number, (digit) => spec.source.indexOf(digit)), EOS];
      kept.set(spec, { key, value: translate(spec, ids, forced) });
    }
    return kept.get(spec).value;
  }

  /* -> {fault} or {source, target: what the decoder read, written: what it wrote at each step, text, logits,
     maps: {encoder, self, cross}: by layer, by head; step, top: [[id, probability]] of that step} */
  function compute(spec, state) {
    const wrong = fault(state.number);
    if (wrong) return { fault: wrong };
    const o = outcome(spec, state.number, state.forced), size = spec.target.length, written = [...o.target.slice(1), o.best];
    const step = Math.min(state.step, written.length - 1), chances = math.softmaxRows(o.logits.subarray(step * size, (step + 1) * size), 1, size);
    const top = Array.from(chances, (p, id) => [id, p]).sort((a, b) => b[1] - a[1]).slice(0, 5);
    const text = written.filter((id) => id !== EOS).map((id) => spec.target[id]).join("").trim();
    return { fault: "", source: o.source, target: o.target, written, text, logits: o.logits, step, top,
      maps: { encoder: o.encoder, self: o.self, cross: o.cross } };
  }

  /* ---------- the page ---------- */

  const PARTS = [["cross", "from the words to the digits"], ["self", "among the words"], ["encoder", "among the digits"]];

  function draw(view) {
    const { ui, spec } = view, h = ui.h, heads = Array.from({ length: spec.config.heads }, (_, i) => i);
    const word = (id) => (id === EOS ? "end" : id === BOS ? "start" : spec.target[id].trim());
    const digit = (id) => (id === EOS ? "end" : spec.source[id]);
    const state = () => view.state;
    let last = null, moved = false;

    const number = ui.text({ label: "A number, 0 to 999999", maxlength: 12 });
    number.set(state().number);
    number.input.setAttribute("inputmode", "numeric");
    number.input.size = 8;
    number.onInput((value) => view.set({ number: value.trim(), step: 0, row: 0, forced: {} }));
    const wrong = h("div", { class: "ak-fault", role: "alert" });
    const said = h("p", { lang: "fr", class: "ak-said", role: "status" }), words = h("div", { class: "ak-row", role: "group", "aria-label": "Tokens written" });
    const step = view.bind("step", ui.range({ label: "Step", min: 0, max: spec.longest, step: 1, format: (v) => String(v + 1) }));
    const part = view.bind("part", ui.select({ label: "Attention", options: PARTS }));
    const layers = Array.from({ length: spec.config.layers }, (_, i) => [i, String(i + 1)]);
    const layer = layers.length < 2 ? null : view.bind("layer", ui.select({ label: "Layer", options: layers }));

    const maps = heads.map((head) => ui.heat({ rows: 1, columns: 1, cell: 26, numbers: false, label: "head " + (head + 1), onMove(i, j) {
      moved = true;
      view.set(state().part === "encoder" ? { head, row: i, column: j } : { head, step: i, column: j });
    } }));
    const pictures = h("div", { class: "ak-heads" }, heads.map((i) => h("div", { class: "ak-panel" }, h("div", { class: "ak-name" }, "Head " + (i + 1)), maps[i])));
    const tables = heads.map(() => ui.grid({ rows: 1, columns: 1, cell: () => "", caption: "" })), numbers = h("div", {}, tables);
    const box = view.twoViews(pictures, numbers), chances = candidates(view, word, () => last);

    view.el.append(h("style", {}, CSS), ui.row(number, wrong), said, words, ui.row(step, part, layer, box), ui.legend([0, 1], 0).el,
      pictures, numbers, chances.el);

    function showWords(result) { // kept, not made anew: who stands on a button stays there
      while (words.children.length > result.written.length) words.lastChild.remove();
      while (words.children.length < result.written.length) {
        const at = words.children.length;
        words.append(h("button", { type: "button", class: "ak-button", onclick: () => view.set({ step: at }) }));
      }
      result.written.forEach((id, i) => {
        const button = words.children[i], forced = state().forced[i] !== undefined;
        button.textContent = word(id);
        button.classList.toggle("ak-forced", forced);
        button.setAttribute("aria-pressed", String(i === result.step));
        button.setAttribute("aria-label", `${word(id)}, token ${i + 1}${forced ? ", yours" : ""}`);
      });
    }

    function showMaps(result) {
      const now = state(), inner = now.part === "encoder", kind = PARTS.find((p) => p[0] === now.part)[1];
      const own = result.maps[now.part][Math.min(now.layer, layers.length - 1)];
      const keys = now.part === "self" ? result.target.map(word) : result.source.map(digit);
      const queries = inner ? result.source.map(digit) : result.written.map(word), rows = queries.length, columns = keys.length;
      const row = inner ? Math.min(now.row, rows - 1) : result.step, column = Math.min(now.column, columns - 1);
      own.forEach((values, i) => {
        const shared = { rows, columns, rowName: (a) => queries[a], columnName: (b) => keys[b], row, column };
        const label = `Head ${i + 1}, attention ${kind}`;
        maps[i].update(Object.assign({ values, limits: [0, 1], label, rowTitle: inner ? "digit" : "writes",
          columnTitle: now.part === "self" ? "has read" : "digit" }, shared));
        tables[i].update(Object.assign({ caption: label, corner: inner ? "digit" : "writes", cell: (a, b) => math.fixed(values[a * columns + b], 3) }, shared));
      });
      const weight = math.fixed(own[now.head][row * columns + column], 2);
      if (moved) view.announce(`Head ${now.head + 1}, ${queries[row]} looks at ${keys[column]}: weight ${weight}`);
      moved = false;
    }

    return (result) => {
      wrong.textContent = result.fault;
      number.set(state().number);
      number.input.setAttribute("aria-invalid", String(Boolean(result.fault)));
      if (result.fault) return;
      last = result;
      step.limits(0, result.written.length - 1);
      step.set(result.step);
      said.textContent = result.text;
      showWords(result);
      showMaps(result);
      chances.update(result);
    };
  }

  /* The five likeliest tokens of a step; the reader may have another one written, and the model goes on from there. */
  function candidates(view, word, last) {
    const { ui, spec } = view, h = ui.h, caption = h("caption");
    // Where a token comes with and without its space, the space is shown.
    const spaced = (id) => (spec.target.includes(spec.target[id].slice(1)) ? spec.target[id].replace(/^ /, "␣") : word(id));
    const choose = (k) => () => {
      const result = last(), id = result.top[k][0], forced = {};
      for (const at of Object.keys(view.state.forced)) if (Number(at) < result.step) forced[at] = view.state.forced[at];
      if (id === result.written[result.step]) return;
      view.set({ forced: Object.assign(forced, { [result.step]: id }) });
    };
    const rows = [0, 1, 2, 3, 4].map((k) => {
      const name = h("th", { scope: "row" }), chance = h("td"), bar = h("span", { class: "ak-bar" });
      const button = h("button", { type: "button", class: "ak-button", onclick: choose(k) });
      return { name, chance, bar, button, el: h("tr", {}, name, chance, h("td", { class: "ak-barcell" }, bar), h("td", {}, button)) };
    });
    const undo = ui.button({ label: "Back to its own words", onClick: () => view.set({ forced: {} }) });
    const table = h("table", { class: "ak-table" }, caption, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "token"),
      h("th", { scope: "col" }, "probability"), h("td"), h("td"))), h("tbody", {}, rows));
    return {
      el: h("div", {}, table, undo, h("p", { class: "ak-note" }, `Trained with label smoothing ${view.spec.smoothing}: ` +
        `a probability of about ${math.fixed(1 - view.spec.smoothing, 1)} is as sure as it gets.`)),
      update(result) {
        const before = result.step ? `after “${word(result.target[result.step])}”` : "to begin with";
        caption.textContent = `Step ${result.step + 1}, the five likeliest tokens ${before}`;
        result.top.forEach(([id, p], k) => {
          const row = rows[k], here = id === result.written[result.step];
          row.name.textContent = spaced(id);
          row.chance.textContent = p > 0 && p < 5e-5 ? "below 0.0001" : math.fixed(p, 4);
          row.bar.style.width = (100 * p).toFixed(1) + "%";
          row.el.classList.toggle("ak-here", here);
          row.button.textContent = here ? "written" : "write this";
          row.button.setAttribute("aria-label", here ? `${word(id)} is written` : `write this: ${word(id)}`);
          row.button.setAttribute("aria-pressed", String(here));
        });
        undo.el.hidden = !Object.keys(view.state.forced).length;
      },
    };
  }

  const CSS = `
.ak-frame .ak-said { font-size: 1.15rem; font-weight: 600; margin: .3rem 0; }
.ak-frame .ak-heads { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 16rem), 1fr)); gap: .4rem .6rem; margin: .4rem 0; }
.ak-frame .ak-panel { min-width: 0; }
.ak-frame .ak-name { font-weight: 600; font-size: .85rem; }
.ak-frame .ak-table thead th:first-child { text-align: left; }
.ak-frame .ak-table .ak-button { white-space: nowrap; }
.ak-frame .ak-note { font-size: .85rem; margin: .3rem 0; }
.ak-frame .ak-forced { text-decoration: underline; }
.ak-frame .ak-barcell { width: 6rem; min-width: 3rem; }
@media (max-width: 480px) { .ak-frame .ak-barcell { display: none; } }
.ak-frame .ak-bar { display: block; height: .8rem; background: #0072b2; forced-color-adjust: none; }
.ak-frame .ak-table tr:not(.ak-here) > th[scope="row"] { font-weight: inherit; }
`;

  ak.register("translator", { initial, compute, draw, encode, decode, translate, fault });
})(globalThis.attnkitExplorer);
