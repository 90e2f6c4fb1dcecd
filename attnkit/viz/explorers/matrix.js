/* Attention as a matrix: queries against keys, recomputed while temperature, scale, mask and head change.

   spec: query (H, Lq, d), key (H, Lk, d), value (H, Lk, dv), packed; queries, keys: names; mask: one of `masks` below or
   "given", with `given` (Lq, Lk) of booleans; scale: number or null for 1/sqrt(d). */
(function (ak) {
  "use strict";
  const math = ak.math, products = new WeakMap();

  const MASKS = [["none", "none: all see all"], ["causal", "causal"], ["causal (lower right)", "causal, last ends aligned"],
    ["window", "window: left neighbours"], ["given", "as given"]];
  const SCALES = [["given", "as given"], ["root", "1/√d"], ["one", "1: no scale"], ["d", "1/d"], ["free", "free"]];

  function shape(spec) {
    const q = spec.query.shape, k = spec.key.shape, v = spec.value.shape;
    return { heads: q[0], rows: q[1], columns: k[1], d: q[2], dv: v[2] };
  }

  function initial(spec) {
    return { head: 0, temperature: 1, scale: spec.scale === null ? "root" : "given", free: spec.scale || shape(spec).d ** -0.5,
      mask: spec.mask, window: 2, softcap: 0, row: 0, column: 0, byRow: false, table: false };
  }

  /* May query i see key j? The same rules as attnkit.masks: Causal and Window(left, 0). */
  function sees(spec, state, s) {
    const shift = state.mask === "causal" ? 0 : s.columns - s.rows;
    if (state.mask === "none") return null;
    if (state.mask === "given") return (i, j) => spec.given.data[i * s.columns + j] !== 0;
    if (state.mask === "window") return (i, j) => j <= i + shift && j >= i + shift - state.window;
    return (i, j) => j <= i + shift;
  }

  function factor(spec, state, d) {
    if (state.scale === "given") return spec.scale === null ? d ** -0.5 : spec.scale;
    return { root: d ** -0.5, one: 1, d: 1 / d, free: state.free }[state.scale];
  }

  /* q·k of one head; kept, since most controls do not change it. */
  function dots(spec, s, head) {
    const kept = products.get(spec) || new Map();
    products.set(spec, kept);
    if (!kept.has(head)) {
      kept.set(head, math.matmulT(spec.query.data, spec.key.data, s.rows, s.d, s.columns, head * s.rows * s.d, head * s.columns * s.d));
    }
    return kept.get(head);
  }

  /* -> {rows, columns, dv, dots, scores (hidden ones -Infinity), weights, output (of the row, dv), blind: rows that see nothing} */
  function compute(spec, state) {
    const s = shape(spec), raw = dots(spec, s, state.head), scale = factor(spec, state, s.d), may = sees(spec, state, s);
    const scores = new Float64Array(raw.length), blind = [];
    for (let i = 0; i < s.rows; i++) {
      let seen = 0;
      for (let j = 0; j < s.columns; j++) {
        let x = raw[i * s.columns + j] * scale;
        if (state.softcap > 0) x = state.softcap * Math.tanh(x / state.softcap);
        const visible = !may || may(i, j);
        scores[i * s.columns + j] = visible ? x / state.temperature : -Infinity;
        seen += visible;
      }
      if (!seen) blind.push(i);
    }
    const weights = math.softmaxRows(scores, s.rows, s.columns);
    const row = Math.min(state.row, s.rows - 1); // only this one's output is looked at
    const output = math.matmul(weights, spec.value.data, 1, s.columns, s.dv, row * s.columns, state.head * s.columns * s.dv);
    return Object.assign(s, { scale, dots: raw, scores, weights, output, blind });
  }

  function greatestOf(list) {
    let most = 0;
    for (let n = 0; n < list.length; n++) if (list[n] > most) most = list[n];
    return most;
  }

  /* What the map shows: weights, or each row in parts of its greatest; hidden cells NaN. */
  function shades(r, byRow) {
    const out = new Float64Array(r.weights.length);
    for (let i = 0; i < r.rows; i++) {
      const start = i * r.columns, most = byRow ? greatestOf(r.weights.subarray(start, start + r.columns)) || 1 : 1;
      for (let n = start; n < start + r.columns; n++) out[n] = r.scores[n] === -Infinity ? NaN : r.weights[n] / most;
    }
    return out;
  }

  const named = (list, i) => (list[i] === String(i) ? list[i] : i + " “" + list[i] + "”");

  function draw(view) {
    const { ui, spec } = view, s = shape(spec);
    const masks = MASKS.filter((m) => (m[0] !== "given" || spec.given) && (m[0] !== "causal (lower right)" || s.rows !== s.columns));
    const scales = SCALES.filter((m) => m[0] !== "given" || spec.scale !== null);
    const heads = Array.from({ length: s.heads }, (_, i) => [i, String(i)]);
    const free = view.bind("free", ui.range({ label: "free scale", min: 1 / 64, max: 4, log: true, format: (v) => math.fixed(v, 3) }));
    const reach = view.bind("window", ui.range({ label: "keys to the left", min: 0, max: Math.min(Math.max(2, s.columns - 1), 64), step: 1, format: String }));
    const move = (row, column) => view.set({ row, column });
    const heat = ui.heat({ rows: s.rows, columns: s.columns, rowName: (i) => spec.queries[i], columnName: (j) => spec.keys[j],
      label: "Attention weights, " + s.rows + " queries by " + s.columns + " keys", onMove: move });
    const legend = ui.legend([0, 1], 2);
    const table = ui.grid({ rows: s.rows, columns: s.columns, rowName: (i) => spec.queries[i], columnName: (j) => spec.keys[j],
      corner: "query \\ key", caption: "Weights", cell: String });
    const picture = ui.h("div", {}, heat, legend), box = view.twoViews(picture, table);
    const steps = ui.grid({ rows: s.columns, columns: 4, corner: "key", rowName: (j) => spec.keys[j], caption: "",
      columnName: (c) => ["q·k", "score", "exp(score − max)", "weight"][c], cell: String });
    const out = ui.grid({ rows: 1, columns: s.dv, corner: "component", rowName: () => "output", columnName: String, caption: "", cell: String });
    view.el.append(
      ui.row(s.heads > 1 ? view.bind("head", ui.select({ label: "head", options: heads })).el : null,
        view.bind("mask", ui.select({ label: "mask", options: masks })), reach),
      ui.row(view.bind("temperature", ui.range({ label: "temperature", min: 1 / 16, max: 16, log: true })),
        view.bind("scale", ui.select({ label: "scale", options: scales })), free,
        view.bind("softcap", ui.range({ label: "softcap", min: 0, max: 50, step: 1, format: (v) => (v ? String(v) : "off") }))),
      ui.row(view.bind("row", ui.range({ label: "query", min: 0, max: s.rows - 1, step: 1, format: (i) => spec.queries[i] })),
        view.bind("byRow", ui.check({ label: "Colour each row by its own greatest" })), box),
      view.live, picture, table.el, ui.fold("This query, step by step", steps, out));
    return function update(r, state) {
      const i = state.row, j = state.column, at = i * r.columns, cell = r.weights[at + j], blind = r.blind.includes(i);
      reach.el.hidden = state.mask !== "window";
      free.el.hidden = state.scale !== "free";
      const most = state.byRow ? 1 : greatestOf(r.weights) || 1, picked = shades(r, state.byRow);
      heat.update({ values: picked, limits: [0, most], numbers: !state.byRow, row: i, column: j });
      legend.set(state.byRow ? ["0", "greatest of its row"] : [0, most]);
      table.update({ cell: (a, b) => (r.scores[a * r.columns + b] === -Infinity ? "hidden" : math.fixed(r.weights[a * r.columns + b], 3)), row: i, column: j });
      const greatest = r.scores.slice(at, at + r.columns).reduce((a, b) => Math.max(a, b), -Infinity), who = "query " + named(spec.queries, i);
      steps.update({ caption: who + ": from products to weights", row: j, column: -1, cell: (n, c) => [
        math.fixed(r.dots[at + n], 3), math.fixed(r.scores[at + n], 3),
        math.fixed(r.scores[at + n] === -Infinity ? 0 : Math.exp(r.scores[at + n] - greatest), 3), math.fixed(r.weights[at + n], 3)][c] });
      out.update({ caption: who + ": the average of the values", row: -1, cell: (_, c) => math.fixed(r.output[c], 3) });
      view.announce(blind ? who + " sees no key: its weights and its output are 0" :
        who + ", key " + named(spec.keys, j) + ": " + (r.scores[at + j] === -Infinity ? "hidden, weight 0" : "weight " + math.fixed(cell, cell < 0.01 ? 4 : 2)));
    };
  }

  ak.register("matrix", { initial, compute, draw });
})(globalThis.attnkitExplorer);
