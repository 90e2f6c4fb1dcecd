/* What a decoder costs: parameters, operations, bytes of the cache, for any size. The formulas are attnkit.nn.cost's.

   spec: presets: [[name, config]], config as attnkit.nn.cost.CostConfig says it, with state: {length, batch, itemsize}. */
(function (ak) {
  "use strict";
  const math = ak.math, GATED = ["swiglu", "geglu"];

  /* ---------- the formulas ---------- */

  const width = (c) => c.d_head || c.d_model / c.heads;
  const bias = (c, name) => (c[name] === null || c[name] === undefined ? c.bias : c[name]) ? 1 : 0;

  /* [from, to, bias] of every matrix that a new token goes through in one attention. */
  function attentionMaps(c) {
    const all = c.heads * width(c), qkv = bias(c, "qkv_bias"), out = [all, c.d_model, bias(c, "out_bias")];
    if (c.d_latent) return [[c.d_model, all + c.heads * c.d_rope, 0], [c.d_model, c.d_latent + c.d_rope, qkv], out];
    const key = [c.d_model, (c.kv_heads || c.heads) * width(c), qkv];
    return [[c.d_model, all, qkv], key, key, out];
  }
  const upMaps = (c) => (c.d_latent ? [0, 1].map(() => [c.d_latent, c.heads * width(c), 0]) : []);
  function feedForwardMaps(c) {
    const b = bias(c, "mlp_bias"), up = [c.d_model, c.d_hidden, b];
    return [up, ...(GATED.includes(c.activation) ? [up] : []), [c.d_hidden, c.d_model, b]];
  }
  const size = (maps) => maps.reduce((sum, m) => sum + m[0] * m[1] + m[2] * m[1], 0);
  const products = (maps) => 2 * maps.reduce((sum, m) => sum + m[0] * m[1], 0);

  function parameters(c) {
    const norm = c.d_model * (c.norm === "layer" && c.bias ? 2 : 1), inner = (c.qk_norm ? 2 * width(c) : 0) + (c.d_latent || 0);
    return { embedding: (c.vocab || 0) * c.d_model, positions: (c.context || 0) * c.d_model,
      attention: c.layers * size([...attentionMaps(c), ...upMaps(c)]), feed_forward: c.layers * size(feedForwardMaps(c)),
      norms: c.layers * (2 * norm + inner) + (c.norm_first ? norm : 0), head: c.tied || !c.vocab ? 0 : c.vocab * c.d_model };
  }

  /* (query, key) pairs that a causal mask and a window leave. */
  function visiblePairs(length, cached, window) {
    const short = Math.max(0, Math.min(cached + length, window || Infinity) - cached);
    return short * (2 * cached + short + 1) / 2 + (length - short) * (window || 0);
  }

  function cacheNumbers(c, seen) {
    const kept = c.window ? Math.min(seen, c.window) : seen;
    return c.d_latent ? kept * (c.d_latent + c.d_rope) : 2 * kept * (c.kv_heads || c.heads) * width(c);
  }

  /* -> {parameters, flops, cache_bytes}; `length` new tokens after `cached`, logits of the last alone if `last` */
  function cost(c, length, o) {
    const { batch = 1, cached = 0, itemsize = 2, last = false } = o || {}, all = c.heads * width(c), pairs = visiblePairs(length, cached, c.window);
    let projections = products(attentionMaps(c)) * length, scores = 4 * all * pairs;
    if (c.d_latent) {
      const ups = products(upMaps(c)), each = 2 * c.heads * pairs;
      const expanded = [ups * (cached + length), each * (2 * width(c) + c.d_rope)], absorbed = [ups * length, each * (2 * c.d_latent + c.d_rope)];
      const fewer = absorbed[0] + absorbed[1] < expanded[0] + expanded[1] ? absorbed : expanded;
      projections += fewer[0];
      scores = fewer[1];
    }
    return { parameters: parameters(c), cache_bytes: batch * itemsize * c.layers * cacheNumbers(c, cached + length),
      flops: { projections: batch * c.layers * projections, scores: batch * c.layers * scores,
        feed_forward: batch * c.layers * products(feedForwardMaps(c)) * length,
        logits: batch * 2 * c.d_model * (c.vocab || 0) * (last ? 1 : length) } };
  }

  /* The least length from which scores take more than all else in the layers; null if none does. */
  function quadraticFrom(c, step) {
    const overtaken = (n) => {
      const f = step ? cost(c, 1, { cached: n - 1 }).flops : cost(c, n).flops;
      return f.scores > f.projections + f.feed_forward;
    };
    let high = 1;
    while (!overtaken(high)) { high *= 2; if (high > 2 ** 48) return null; }
    let low = Math.floor(high / 2);
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (overtaken(middle)) high = middle; else low = middle;
    }
    return high;
  }

  /* ---------- state -> what is shown ---------- */

  const SHARE = [["mha", "each its own (MHA)"], ["gqa", "groups share (GQA)"], ["mqa", "all share one (MQA)"], ["mla", "one latent vector (MLA)"]];

  function fromConfig(c) {
    const share = c.d_latent ? "mla" : !c.kv_heads || c.kv_heads === c.heads ? "mha" : c.kv_heads === 1 ? "mqa" : "gqa";
    return { layers: c.layers, d_model: c.d_model, heads: c.heads, d_head: c.d_head || 0, share, kv_heads: c.kv_heads || Math.max(1, c.heads / 4),
      d_latent: c.d_latent || 4 * width(c), d_rope: c.d_rope || width(c) / 2, d_hidden: c.d_hidden, vocab: c.vocab || 0, window: c.window || 0 };
  }

  function initial(spec) {
    return Object.assign({ preset: 0, length: 4096, batch: 1, itemsize: 2, table: false }, fromConfig(spec.presets[0][1]));
  }

  function config(spec, state) {
    const c = Object.assign({}, spec.presets[state.preset][1]), mla = state.share === "mla";
    for (const name of ["layers", "d_model", "heads", "d_hidden"]) c[name] = state[name];
    for (const name of ["d_head", "vocab", "window"]) c[name] = state[name] || null;
    c.kv_heads = { mha: null, gqa: state.kv_heads, mqa: 1, mla: null }[state.share];
    c.d_latent = mla ? state.d_latent : null;
    c.d_rope = mla ? state.d_rope : null;
    return c;
  }

  function fault(c) {
    if (!c.d_head && c.d_model % c.heads) return `The heads should divide the width: ${c.d_model} / ${c.heads} is no whole number. Or give the width of a head.`;
    if (c.kv_heads && c.heads % c.kv_heads) return `The key and value heads should divide the heads: ${c.heads} / ${c.kv_heads} is no whole number.`;
    return "";
  }

  function compute(spec, state) {
    const c = config(spec, state), wrong = fault(c), n = state.length, o = { batch: state.batch, itemsize: state.itemsize };
    if (wrong) return { fault: wrong };
    const kinds = SHARE.map(([share, name]) => [share, name, cost(config(spec, Object.assign({}, state, { share })), n, o).cache_bytes]);
    const read = cost(c, n, Object.assign({ last: true }, o)), step = cost(c, 1, Object.assign({ cached: n - 1 }, o));
    return { fault: "", config: c, read, step, kinds, from: quadraticFrom(c, false), stepFrom: quadraticFrom(c, true) };
  }

  /* ---------- the page ---------- */

  const sum = (parts) => Object.values(parts).reduce((a, b) => a + b, 0);

  function short(x, units, base) {
    let k = 0;
    while (x >= base && k < units.length - 1) { x /= base; k += 1; }
    return (x >= 100 || Number.isInteger(x) ? x.toFixed(0) : x.toPrecision(3)) + units[k];
  }
  const count = (x) => short(x, ["", " thousand", " million", " billion", " trillion", " × 10¹⁵", " × 10¹⁸", " × 10²¹"], 1000);
  const bytes = (x) => short(x, [" B", " KiB", " MiB", " GiB", " TiB", " PiB"], 1024);

  function draw(view) {
    const { ui, spec } = view, h = ui.h, bind = (key, control) => view.bind(key, control);
    const field = (key, label, min, max) => {
      const control = ui.number({ label, min, max });
      control.input.value = view.state[key];
      return bind(key, control);
    };
    const preset = spec.presets.length < 2 ? null : ui.select({ label: "Start from", options: spec.presets.map((p, i) => [i, p[0]]) });
    if (preset) preset.set(view.state.preset);
    if (preset) preset.onInput((i) => view.set(Object.assign({ preset: i }, fromConfig(spec.presets[i][1]))));
    const share = bind("share", ui.select({ label: "Keys and values", options: SHARE }));
    const groups = field("kv_heads", "key and value heads", 1, 4096);
    const latent = h("span", { class: "ak-row" }, field("d_latent", "width of the latent", 1, 65536), field("d_rope", "rotary part", 1, 4096));
    const length = bind("length", ui.range({ label: "Length in tokens", min: 1, max: 2 ** 20, log: true, step: 0.125, format: (v) => Math.round(v).toLocaleString("en") }));
    length.onInput((v) => view.set({ length: Math.max(1, Math.round(v)) }));
    const size = bind("itemsize", ui.select({ label: "Bytes of a number", options: [[4, "4: float32"], [2, "2: float16, bfloat16"], [1, "1: 8 bits"]] }));
    const wrong = h("div", { class: "ak-fault", role: "alert" }), verdict = h("p", { class: "ak-verdict", role: "status" });
    const tables = h("div", { class: "ak-costs" });
    const chart = ui.chart({ label: "", xlabel: "tokens before it", ylabel: "operations for one more token, in millions",
      onPick: (x) => view.set({ length: Math.max(1, Math.round(x)) }) });
    const numbers = ui.grid({ rows: 1, columns: 3, cell: () => "", caption: "Operations for one more token, in millions", corner: "tokens" });
    const box = view.twoViews(chart, numbers), fields = ui.fold("Change the model",
      ui.row(field("layers", "layers", 1, 1000), field("d_model", "width d_model", 1, 65536), field("heads", "heads", 1, 1024), field("d_head", "width of a head (0: d_model / heads)", 0, 8192)),
      ui.row(field("d_hidden", "width inside the feed-forward", 1, 262144), field("vocab", "vocabulary (0: none)", 0, 1000000), field("window", "window (0: none)", 0, 1000000)));
    fields.open = globalThis.innerWidth > 600;
    view.el.append(h("style", {}, CSS), ui.row(preset, share, groups, latent), fields, ui.row(length, field("batch", "batch", 1, 100000), size), wrong, verdict,
      tables, ui.row(box), chart.el, numbers.el);

    function table(caption, header, rows) {
      return h("div", { class: "ak-scroll", tabindex: "0", role: "group", "aria-label": caption }, h("table", { class: "ak-table" }, h("caption", {}, caption),
        h("thead", {}, h("tr", {}, header.map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, rows.map((row) => h("tr", { class: row[0] === true ? "ak-here" : null }, row.filter((c) => typeof c === "string")
          .map((c, i) => h(i ? "td" : "th", i ? {} : { scope: "row" }, c)))))));
    }

    function showChart(result, state) {
      const c = result.config, most = Math.max(2 * Math.min(result.stepFrom || 2 ** 20, 2 ** 20), Math.min(4 * state.length, 2 ** 20), 64), x = [];
      for (let i = 0; i <= 40; i++) x.push(Math.max(1, Math.round(most * i / 40)));
      const each = x.map((n) => cost(c, 1, { cached: n - 1, batch: state.batch }).flops), million = (f) => each.map((e) => f(e) / 1e6);
      const series = [["scores and weighted sum", (f) => f.scores], ["projections", (f) => f.projections], ["feed-forward", (f) => f.feed_forward]]
        .map(([name, f]) => ({ name, y: million(f) }));
      const at = x.reduce((a, b) => (Math.abs(b - state.length) < Math.abs(a - state.length) ? b : a));
      const label = `Operations for one more token against the tokens before it, up to ${most}. ` + verdict.textContent;
      chart.update({ x, series, at, label });
      numbers.update({ rows: x.length, columns: 3, rowName: (i) => String(x[i]), columnName: (j) => series[j].name, row: x.indexOf(at), column: 0,
        cell: (i, j) => math.fixed(series[j].y[i], 2) });
    }

    return (result, state) => {
      wrong.textContent = result.fault;
      groups.el.hidden = state.share !== "gqa";
      latent.hidden = state.share !== "mla";
      if (result.fault) return;
      const names = { embedding: "embedding", positions: "positions", attention: "attention", feed_forward: "feed-forward", norms: "norms", head: "head",
        projections: "projections", scores: "scores and sum", logits: "logits" };
      const parts = result.read.parameters, total = sum(parts), percent = (x, all) => math.fixed(100 * x / all, 1) + " %";
      const n = state.length.toLocaleString("en"), read = result.read.flops, step = result.step.flops;
      verdict.textContent = `${count(total)} parameters; cache ${bytes(result.read.cache_bytes)}. ` + (result.from === null
        ? "With this window the scores never take more than the rest of the layers."
        : `Reading a prompt, the scores take more than the rest of the layers from ${result.from.toLocaleString("en")} tokens on` +
          (result.stepFrom === null ? "." : `; for one more token, after ${result.stepFrom.toLocaleString("en")}.`));
      const end = result.config.context;
      if (end && state.length > end) verdict.textContent += ` But its table of positions ends at ${end.toLocaleString("en")}.`;
      tables.replaceChildren(
        table("Parameters", ["part", "number", "share"], [...Object.keys(parts).filter((p) => parts[p]).map((p) => [names[p], count(parts[p]), percent(parts[p], total)]),
          [true, "all", count(total), bytes(total * state.itemsize)]]),
        table(`Operations, ${n} tokens`, ["part", "reading all", "one more token"], [...Object.keys(read).filter((p) => read[p]).map((p) => [names[p], count(read[p]), count(step[p])]),
          [true, "all", count(sum(read)), count(sum(step))]]),
        table(`Cache, ${n} tokens` + (state.batch > 1 ? `, batch ${state.batch}` : ""), ["keys and values", "bytes"], result.kinds.map(([kind, name, size]) => [kind === state.share, name, bytes(size)])));
      showChart(result, state);
    };
  }

  const CSS = `
.ak-frame .ak-verdict { font-weight: 600; margin: .3rem 0; }
.ak-frame .ak-table thead th:first-child { text-align: left; }
.ak-frame .ak-costs { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; align-items: flex-start; }
.ak-frame .ak-costs > * { min-width: 0; }
`;

  ak.register("cost", { initial, compute, draw, cost, quadraticFrom, visiblePairs });
})(globalThis.attnkitExplorer);
