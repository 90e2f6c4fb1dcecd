/* Beam search as a tree, by the rules of attnkit.generation.Beam, over a table of what follows each prefix.

   spec: tokens ({id: name}), eos (an id), longest (tokens at most), widest (of the beam), following: {"3,5": [[id, log p], ...]}
   with the prefix's ids joined by commas, the likeliest first; what is not listed is impossible. */
(function (ak) {
  "use strict";
  const math = ak.math, page = globalThis.document;

  const penalty = (length, power) => length ** power;
  const better = (a, b) => b.score - a.score; // Array.sort is stable, as Python's sorted

  /* One step's extensions of the running hypotheses, the best first, `keep` at most. */
  function extend(spec, running, keep) {
    const found = [];
    running.forEach((h, parent) => {
      for (const [token, gain] of spec.following[h.tokens.join(",")] || []) {
        found.push({ parent: h.id, beam: parent, token, gain, sum: h.sum + gain, tokens: [...h.tokens, token] });
      }
    });
    return found.sort((a, b) => b.sum - a.sum).slice(0, keep);
  }

  /* -> {nodes, steps: the ids of each step's candidates, pool: the hypotheses that ended, the best first}.
     A node: {id, step, parent, token, gain, sum, tokens, score, status}; status is "running", "ended", "cut" (the longest
     was reached), "left" (still running when the search stopped), "out" (worse than the beam is wide) or, of what had ended, "beaten" by better ones. */
  function search(spec, width, power, early) {
    const nodes = [{ id: 0, step: 0, parent: null, tokens: [], sum: 0, status: "running" }], steps = [];
    let running = [nodes[0]], pool = [];
    for (let length = 1; length <= spec.longest && running.length; length++) {
      const next = [], found = extend(spec, running, 2 * width);
      found.forEach((node, rank) => {
        Object.assign(node, { id: nodes.length, step: length, rank, score: node.sum / penalty(length, power), status: "out" });
        nodes.push(node);
        const ended = node.token === spec.eos;
        if (!ended && length < spec.longest) {
          if (next.length < width) { next.push(node); node.status = "running"; }
        } else if (rank < width) {
          node.status = ended ? "ended" : "cut";
          const before = pool;
          pool = [...pool, node].sort(better).slice(0, width);
          for (const lost of [...before, node]) if (!pool.includes(lost)) lost.status = "beaten";
        }
      });
      steps.push(found.map((node) => node.id));
      const worst = pool.length === width ? pool[width - 1].score : -Infinity;
      const hope = early === "never" && power > 0 ? spec.longest : length;
      if (next.length && ((early === "first" && pool.length === width) || next[0].sum / penalty(hope, power) <= worst)) {
        for (const node of next) node.status = "left"; // none of them can win any more
        break;
      }
      running = next;
    }
    return { nodes, steps, pool: pool.map((node) => node.id) };
  }

  /* The likeliest token at each step, and no other. -> {tokens, sum, score} */
  function greedy(spec, power) {
    const tokens = [];
    let sum = 0;
    while (tokens.length < spec.longest && tokens[tokens.length - 1] !== spec.eos) {
      const row = spec.following[tokens.join(",")];
      if (!row || !row.length) break;
      tokens.push(row[0][0]);
      sum += row[0][1];
    }
    return { tokens, sum, score: sum / penalty(tokens.length, power) };
  }

  function initial() {
    return { width: 2, penalty: 1, early: "no", step: 99, picked: null, table: false };
  }

  function compute(spec, state) {
    const found = search(spec, Math.min(state.width, spec.widest), state.penalty, state.early), alone = greedy(spec, state.penalty);
    const own = alone.tokens.join(","), best = found.pool.length ? found.nodes[found.pool[0]] : null;
    for (const node of found.nodes) node.greedy = own === node.tokens.join(",") || own.startsWith(node.tokens.join(",") + ",") || !node.tokens.length;
    return Object.assign(found, { greedy: alone, step: Math.min(Math.max(state.step, 1), found.steps.length),
      same: Boolean(best) && best.tokens.join(",") === own });
  }

  /* ---------- the page ---------- */

  const MEANING = { running: "runs on", ended: "ended", cut: "cut at the longest", left: "left: it stopped", out: "dropped", beaten: "ended, then beaten" };
  const EARLY = [["no", "when nothing running is ahead"], ["first", "as soon as the pool is full"], ["never", "when no penalty could help"]];

  function draw(view) {
    const { ui, spec } = view, h = ui.h, svg = ui.svg;
    const known = new Set(Object.values(spec.tokens)); // where a word comes with and without its space, the space is shown
    const word = (id) => (id === spec.eos ? "end" : known.has(spec.tokens[id].slice(1)) ? spec.tokens[id].replace(/^ /, "␣") : spec.tokens[id].trim() || "␣");
    const say = (tokens) => tokens.map(word).join(" ");
    const bind = (key, control) => view.bind(key, control);
    const width = bind("width", ui.range({ label: "Beam width", min: 1, max: spec.widest, step: 1, format: String }));
    const power = bind("penalty", ui.range({ label: "Length penalty", min: 0, max: 2, step: 0.1, format: (v) => math.fixed(v, 1) }));
    const step = bind("step", ui.range({ label: "Step", min: 1, max: spec.longest, step: 1, format: String }));
    const early = bind("early", ui.select({ label: "Stop", options: EARLY }));
    const picture = svg("svg", { role: "img" }), scroll = h("div", { class: "ak-scroll", tabindex: "0", role: "group", "aria-label": "Tree of hypotheses" }, picture);
    const verdict = h("p", { class: "ak-verdict", role: "status" }), here = h("div", { class: "ak-scroll", tabindex: "0", role: "group" }), ends = h("div", { class: "ak-scroll", tabindex: "0", role: "group", "aria-label": "Hypotheses that ended" });
    const all = h("div", { class: "ak-scroll", tabindex: "0", role: "group", "aria-label": "All candidates" });
    const box = view.twoViews(scroll, all), key = h("div", { class: "ak-legend" }, ["running", "ended", "out"].map((status) => h("span", { class: "ak-key" },
      svg("svg", { width: 30, height: 16, "aria-hidden": "true" }, svg("rect", { x: 1.5, y: 1.5, width: 27, height: 13, rx: 3, class: "ak-node ak-" + status })), MEANING[status])),
      h("span", { class: "ak-key" }, svg("svg", { width: 30, height: 16, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 30, y1: 8, y2: 8, class: "ak-greedy" })), "greedy path"));
    view.el.append(h("style", {}, CSS), ui.row(width, power), ui.row(step, early, box), verdict, key, scroll, all, here, ends);

    function table(caption, header, rows) {
      return h("table", { class: "ak-table" + (header.length > 3 && header[1] === "sum" ? " ak-fate" : "") }, h("caption", {}, caption), h("thead", {}, h("tr", {}, header.map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, rows.map((row) => h("tr", { class: row.here ? "ak-here" : null }, row.cells.map((c, i) => h(i ? "td" : "th", i ? {} : { scope: "row" }, c))))));
    }
    const trace = (node) => { // by keyboard, what a click on a box does
      const shown = view.state.picked !== null && view.state.picked.join() === node.tokens.join();
      return h("button", { type: "button", class: "ak-button", "aria-pressed": String(shown), onclick: () => pick(node) }, say(node.tokens));
    };
    const cells = (node, first) => [first, math.fixed(node.sum, 3), math.fixed(node.score, 3), MEANING[node.status] + (node.greedy ? "; greedy" : "")];

    /* Boxes in columns, one a step; in a column they follow their parents, so that few lines cross. */
    function tree(result) {
      const W = 118, GAP = 26, TALL = 30, LINE = 38, at = { 0: { x: 4, y: 0 } }, shown = result.steps.slice(0, result.step), marks = [], lines = [];
      let most = 1;
      for (const ids of shown) most = Math.max(most, ids.length);
      const high = most * LINE + 4;
      at[0].y = high / 2;
      shown.forEach((ids, i) => {
        const ordered = ids.slice().sort((a, b) => at[result.nodes[a].parent].y - at[result.nodes[b].parent].y || result.nodes[a].rank - result.nodes[b].rank);
        ordered.forEach((id, k) => { at[id] = { x: 46 + i * (W + GAP), y: (high - ids.length * LINE) / 2 + (k + 0.5) * LINE }; });
      });
      const chosen = view.state.picked === null ? [] : [...view.state.picked];
      const on = { has: (id) => result.nodes[id].tokens.every((token, i) => chosen[i] === token) };
      marks.push(svg("text", { x: 2, y: at[0].y + 4 }, "start"));
      shown.forEach((ids, i) => ids.forEach((id) => {
        const node = result.nodes[id], p = at[id], from = at[node.parent], x0 = node.parent === 0 ? 34 : from.x + W;
        lines.push(svg("path", { d: `M${x0},${from.y} C${x0 + 14},${from.y} ${p.x - 14},${p.y} ${p.x},${p.y}`,
          class: "ak-edge" + (node.greedy ? " ak-greedy" : "") + (on.has(id) ? " ak-on" : "") + (node.status === "out" ? " ak-faint" : "") }));
        const status = { cut: "ended", beaten: "ended", left: "running" }[node.status] || node.status;
        marks.push(svg("g", { class: "ak-hit", onclick: () => pick(node) },
          svg("rect", { x: p.x, y: p.y - TALL / 2, width: W, height: TALL, rx: 5, class: "ak-node ak-" + status + (on.has(id) ? " ak-on" : "") }),
          svg("text", { x: p.x + 6, y: p.y + 4 }, (status === "ended" ? "✓ " : status === "out" ? "✗ " : "") + cut(word(node.token), status === "running" ? 9 : 7)),
          svg("text", { x: p.x + W - 5, y: p.y + 4, "text-anchor": "end" }, math.fixed(node.sum, node.sum > -10 ? 2 : 1))));
      }));
      const wide = 46 + shown.length * (W + GAP);
      for (const [name, value] of [["width", wide], ["height", high], ["viewBox", `0 0 ${wide} ${high}`],
        ["aria-label", `Tree of ${result.step} steps. ` + verdict.textContent]]) picture.setAttribute(name, value);
      picture.replaceChildren(...lines, ...marks);
      scroll.scrollLeft = scroll.scrollWidth;
    }
    const cut = (s, n) => (s.length > n ? s.slice(0, n - 1) + "…" : s);

    function pick(node) {
      view.set({ picked: node.tokens });
      view.announce(`${say(node.tokens)}: sum ${math.fixed(node.sum, 2)}, score ${math.fixed(node.score, 2)}, ${MEANING[node.status]}`);
    }

    const place = () => { // which of the buttons below has the focus, since they are made anew
      const buttons = Array.from(here.querySelectorAll("button")), now = buttons.indexOf(page.activeElement);
      return () => { if (now >= 0) (here.querySelectorAll("button")[now] || here).focus(); };
    };

    function show(result) {
      const back = place();
      const ids = result.steps[result.step - 1] || [], done = result.step === result.steps.length;
      here.setAttribute("aria-label", `Candidates of step ${result.step}`);
      here.replaceChildren(table(`Step ${result.step}: candidates, the best sum first`, ["hypothesis", "sum", "score", "what becomes of it"],
        ids.map((id) => ({ cells: cells(result.nodes[id], trace(result.nodes[id])), here: result.nodes[id].status !== "out" }))));
      const pool = result.pool.map((id) => result.nodes[id]).filter((node) => node.step <= result.step);
      ends.replaceChildren(table(done ? "In the end, the best score first" : "Ended so far", ["hypothesis", "length", "sum", "score"],
        pool.map((node, i) => ({ cells: [say(node.tokens), String(node.tokens.length), math.fixed(node.sum, 3), math.fixed(node.score, 3)], here: i === 0 && done }))));
      all.replaceChildren(table("All candidates up to this step", ["hypothesis", "sum", "score", "what becomes of it"],
        result.steps.slice(0, result.step).flat().map((id) => ({ cells: cells(result.nodes[id], say(result.nodes[id].tokens)), here: result.nodes[id].status !== "out" }))));
      back();
    }

    return (result, state) => {
      step.limits(1, Math.max(1, result.steps.length));
      step.set(result.step);
      const best = result.pool.length ? result.nodes[result.pool[0]] : null, own = say(result.greedy.tokens);
      verdict.textContent = !best ? "No hypothesis came to an end." : result.same ? `Beam and greedy search agree: “${own}”.`
        : `Beam: “${say(best.tokens)}”, sum ${math.fixed(best.sum, 2)}. Greedy: “${own}”, sum ${math.fixed(result.greedy.sum, 2)}.`;
      show(result);
      if (!state.table) tree(result);
    };
  }

  const CSS = `
.ak-frame .ak-verdict { font-weight: 600; margin: .3rem 0; }
.ak-frame .ak-table thead th:first-child, .ak-frame .ak-fate td:nth-child(4), .ak-frame .ak-fate th:nth-child(4) { text-align: left; }
.ak-frame .ak-table tbody th { white-space: nowrap; }
.ak-frame .ak-node { fill: var(--ak-ground); stroke: var(--ak-ink); stroke-width: 1.5; }
.ak-frame .ak-node.ak-ended { stroke: #00875f; stroke-width: 3.5; }
.ak-frame .ak-node.ak-out { stroke: var(--ak-line); stroke-dasharray: 4 3; }
.ak-frame .ak-node.ak-on { stroke: var(--ak-blue); stroke-width: 4; }
.ak-frame .ak-hit { cursor: pointer; font-size: 12px; font-variant-numeric: tabular-nums; }
.ak-frame .ak-scroll > svg { display: block; }
.ak-frame .ak-scroll > svg text { fill: currentColor; font-size: 12px; }
.ak-frame .ak-edge { fill: none; stroke: var(--ak-line); stroke-width: 1.5; }
.ak-frame .ak-edge.ak-faint { stroke-dasharray: 4 3; }
.ak-frame .ak-edge.ak-on { stroke: var(--ak-blue); stroke-width: 4; }
.ak-frame .ak-greedy { fill: none; stroke: #d55e00; stroke-width: 3.5; }
`;

  ak.register("beam", { initial, compute, draw, search, greedy });
})(globalThis.attnkitExplorer);
