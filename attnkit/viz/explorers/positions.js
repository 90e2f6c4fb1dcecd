/* How encodings tell places apart: a score over the offset between key and query, and the same for every pair of places.

   spec: kind: the encoding shown first; d, length; heads (for ALiBi and T5); base; query, key: packed vectors (d) or null
   for all ones; table: packed (buckets, heads) or null, T5's learned biases; buckets, maxDistance, bidirectional. */
(function (ak) {
  "use strict";
  const math = ak.math;
  const KINDS = [["sinusoidal", "sinusoidal: PE(i)·PE(j)"], ["rope", "RoPE: turned q·k"], ["alibi", "ALiBi: bias"], ["t5", "T5: bucket of the offset"]];

  function initial(spec) {
    return { kind: spec.kind, place: Math.floor(spec.length / 2), offset: -1, base: spec.base, head: 0, d: spec.d,
      view: "curve", table: false };
  }

  const frequencies = (d, base) => Array.from({ length: d / 2 }, (_, i) => base ** (-2 * i / d));

  /* As attnkit.positions.alibi_slopes: between powers of two, every other slope of the power above. */
  function slopes(heads) {
    const power = 2 ** Math.floor(Math.log2(heads)), out = [];
    for (let i = 1; i <= power; i++) out.push(2 ** (-8 / power * i));
    for (let i = 0; i < heads - power; i++) out.push(2 ** (-4 / power * (2 * i + 1)));
    return out;
  }

  /* As attnkit.positions.t5_bucket, with its float32 logarithm; offset = key - query. */
  function bucket(offset, buckets, most, bidirectional) {
    const f = Math.fround, half = bidirectional ? buckets / 2 : buckets, first = bidirectional && offset > 0 ? half : 0;
    const far = bidirectional ? Math.abs(offset) : Math.max(-offset, 0), exact = half / 2;
    if (far < exact) return first + far;
    const ratio = f(f(Math.log(f(far / exact))) / f(Math.log(most / exact)));
    return first + Math.min(exact + Math.trunc(f(ratio * (half - exact))), half - 1);
  }

  /* The score of a query at i and a key at j, whatever the encoding; pure. */
  function scorer(spec, state) {
    if (state.kind === "alibi") {
      const slope = slopes(spec.heads)[state.head];
      return (i, j) => -slope * Math.abs(j - i);
    }
    if (state.kind === "t5") {
      const of = (i, j) => bucket(j - i, spec.buckets, spec.maxDistance, spec.bidirectional);
      return spec.table ? (i, j) => spec.table.data[of(i, j) * spec.heads + state.head] : of;
    }
    const w = frequencies(state.d, state.base), own = spec.query && state.d === spec.d && state.kind === "rope";
    if (!own) return (i, j) => w.reduce((sum, f) => sum + Math.cos((i - j) * f), 0) * (state.kind === "rope" ? 2 : 1);
    const q = spec.query.data, k = spec.key.data, h = state.d / 2; // layout "half": entries i and i + d/2 are a pair
    return (i, j) => w.reduce((sum, f, n) => sum + (q[n] * k[n] + q[n + h] * k[n + h]) * Math.cos((i - j) * f) +
      (q[n] * k[n + h] - q[n + h] * k[n]) * Math.sin((i - j) * f), 0);
  }

  /* -> {offsets, curve (score by offset, for a query at `place`), score, bucket, map (length x length, only when looked at)} */
  function compute(spec, state) {
    const score = scorer(spec, state), n = spec.length, place = Math.min(state.place, n - 1), offsets = [], curve = [];
    for (let j = 0; j < n; j++) {
      offsets.push(j - place);
      curve.push(score(place, j));
    }
    const key = Math.min(Math.max(place + state.offset, 0), n - 1), out = { offsets, curve, place, key, score: curve[key] };
    if (state.kind === "t5") out.bucket = bucket(key - place, spec.buckets, spec.maxDistance, spec.bidirectional);
    if (state.view === "map") {
      out.map = new Float64Array(n * n);
      const kept = new Map(); // every encoding here knows only the offset
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
        if (!kept.has(j - i)) kept.set(j - i, score(i, j));
        out.map[i * n + j] = kept.get(j - i);
      }
    }
    return out;
  }

  const NAMES = { sinusoidal: "dot product", rope: "q·k after turning", alibi: "bias", t5: "bias" };

  function draw(view) {
    const { ui, spec } = view, n = spec.length, widths = [8, 16, 32, 64, 128, 256].concat(spec.d).sort((a, b) => a - b);
    const base = view.bind("base", ui.range({ label: "base", min: 10, max: 1e6, log: true, format: (v) => math.fixed(v, v < 100 ? 1 : 0) }));
    const width = view.bind("d", ui.select({ label: "d", options: Array.from(new Set(widths), (d) => [d, d]) }));
    const head = view.bind("head", ui.range({ label: "head", min: 0, max: spec.heads - 1, step: 1, format: String }));
    const offset = view.bind("offset", ui.range({ label: "offset, key − query", min: -(n - 1), max: n - 1, step: 1, format: (v) => math.fixed(v, 0) }));
    const chart = ui.chart({ label: "", xlabel: "offset, key − query", onPick: (x) => view.set({ offset: x }) });
    const heat = ui.heat({ rows: n, columns: n, label: "", onMove: (i, j) => view.set({ place: i, offset: j - i }) });
    const legend = ui.legend([0, 1], 2), map = ui.h("div", {}, heat, legend), pictures = ui.h("div", {}, chart, map);
    const table = ui.grid({ rows: n, columns: 1, corner: "offset", rowName: String, columnName: String, caption: "", cell: String });
    const box = view.twoViews(pictures, table);
    view.el.append(
      ui.row(view.bind("kind", ui.select({ label: "encoding", options: KINDS })), base, width, spec.heads > 1 ? head : null),
      ui.row(offset, view.bind("place", ui.range({ label: "query at", min: 0, max: n - 1, step: 1, format: String }))),
      ui.row(view.bind("view", ui.select({ label: "show", options: [["curve", "one query, over the offset"], ["map", "every query and key"]] })), box),
      view.live, pictures, table.el);
    return function update(r, state) {
      const waves = state.kind === "sinusoidal" || state.kind === "rope", bare = state.kind === "t5" && !spec.table;
      const what = bare ? "bucket" : NAMES[state.kind], digits = bare ? 0 : 3, flat = state.view === "map";
      base.el.hidden = width.el.hidden = !waves;
      head.el.hidden = waves || bare;
      offset.limits(-r.place, n - 1 - r.place);
      offset.set(r.key - r.place);
      chart.el.hidden = flat;
      map.hidden = !flat;
      const label = what + " over the offset, for a query at place " + r.place;
      chart.update({ x: r.offsets, series: [{ name: what, y: r.curve, dots: state.kind === "t5" }], at: r.key - r.place, ylabel: what, label });
      if (flat) {
        const limits = [r.map.reduce((a, b) => Math.min(a, b)), r.map.reduce((a, b) => Math.max(a, b))];
        heat.update({ values: r.map, limits, digits, row: r.place, column: r.key, label: what + " of every query and key, " + n + " places" });
        legend.set(limits);
      }
      table.update({ rowName: (i) => math.fixed(r.offsets[i], 0), columnName: () => what, caption: label, cell: (i) => math.fixed(r.curve[i], digits), row: r.key });
      view.announce("query at " + r.place + ", key at " + r.key + ", offset " + math.fixed(r.key - r.place, 0) + ": " + what + " " +
        math.fixed(r.score, digits) + (state.kind === "t5" && !bare ? ", bucket " + r.bucket : ""));
    };
  }

  ak.register("positions", { initial, compute, draw, slopes, bucket });
})(globalThis.attnkitExplorer);
