/* Controls, heat map, table and chart for explorers. Loaded right after explorer.js, which says how they are used.

   Every control is {el, set(value), onInput(f)}; `set` is silent, `onInput` hears the reader. Pass `el` (or the control)
   to h(). All have visible labels, work by keyboard and touch, and are at least 24 px high.

   h(tag, attributes, ...children)   an element; children are elements, controls, texts, null or lists of them
   svg(tag, attributes, ...children) the same for SVG
   row(...children)                  a line of controls that wraps
   range({label, min, max, step, format, log})      log: the slider is a power of two, the value is not
   select({label, options: [[value, label], ...]})  check({label})   number({label, min, max, step})
   text({label, placeholder, maxlength})   button({label, onClick})   output({label})   fold(summary, ...children)
   heat({rows, columns, rowName, columnName, label, onMove, ...})   see below; say in onMove, by view.announce, what the cell holds
   grid({rows, columns, rowName, columnName, cell, caption, corner})           see below
   chart({label, xlabel, ylabel, onPick})                                      see below
*/
(function (ak) {
  "use strict";
  if (ak.ui) return;
  const math = ak.math, page = globalThis.document;
  const SVG = "http://www.w3.org/2000/svg";
  // After Okabe and Ito: 3:1 or more on white and on the dark page (attnkit.viz.figure).
  const SERIES = ["#0072b2", "#d55e00", "#00875f", "#b8609a", "#7a7a7a"];
  const DASHES = ["", "7 4", "8 3 2 3", "2 3", "9 3 2 3 2 3"];
  let count = 0;

  const element = (thing) => (thing && thing.el ? thing.el : thing);
  const unique = (word) => "ak" + ak.version.slice(0, 6).replace(/\W/g, "") + "-" + word + ++count;

  function fill(node, attributes, children) {
    for (const name of Object.keys(attributes || {})) {
      const value = attributes[name];
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on") && typeof value === "function") node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat(9)) {
      if (child !== null && child !== undefined && child !== false) node.append(element(child));
    }
    return node;
  }
  const h = (tag, attributes, ...children) => fill(page.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => fill(page.createElementNS(SVG, tag), attributes, children);
  const row = (...children) => h("div", { class: "ak-row" }, children);

  /* ---------- controls ---------- */

  function labelled(label, input, after) {
    const id = unique("c");
    input.id = id;
    return h("div", { class: "ak-control" }, h("label", { for: id }, label), input, after);
  }

  function listening(input, event, el, read, write) {
    return { el, input, set: write, onInput(f) { input.addEventListener(event, () => f(read())); } };
  }

  function range(o) {
    const there = o.log ? (v) => Math.log2(v) : Number, back = o.log ? (x) => 2 ** Number(x) : Number;
    const format = o.format || ((v) => math.fixed(v, 2)), shown = h("output", { class: "ak-value" });
    const input = h("input", { type: "range", min: there(o.min), max: there(o.max), step: o.step === undefined ? "any" : o.step });
    const el = labelled(o.label, input, shown);
    shown.setAttribute("for", input.id);
    const show = (v) => { shown.textContent = format(v); input.setAttribute("aria-valuetext", format(v)); };
    const control = listening(input, "input", el, () => back(input.value), (v) => {
      if (Math.abs(Number(input.value) - there(v)) > 1e-9) input.value = there(v);
      show(v);
    });
    input.addEventListener("input", () => show(back(input.value)));
    control.limits = (min, max) => { input.min = there(min); input.max = there(max); };
    return control;
  }

  function select(o) {
    const input = h("select"), control = listening(input, "change", labelled(o.label, input),
      () => control.values[input.selectedIndex], (v) => { input.selectedIndex = control.values.indexOf(v); });
    control.options = (pairs) => { // [[value, label], ...]
      control.values = pairs.map((p) => p[0]);
      input.replaceChildren(...pairs.map((p) => h("option", {}, String(p[1]))));
    };
    control.options(o.options);
    return control;
  }

  function check(o) {
    const input = h("input", { type: "checkbox" }), el = h("label", { class: "ak-check" }, input, h("span", {}, o.label));
    return listening(input, "change", el, () => input.checked, (v) => { input.checked = Boolean(v); });
  }

  function number(o) {
    const input = h("input", { type: "number", min: o.min, max: o.max, step: o.step || 1, inputmode: "numeric" });
    const fault = h("span", { class: "ak-fault", role: "alert" });
    const control = listening(input, "input", labelled(o.label, input, fault), () => Number(input.value), (v) => {
      if (page.activeElement !== input && Number(input.value) !== v) input.value = v;
    });
    control.onInput = (f) => input.addEventListener("input", () => {
      const v = Number(input.value), least = o.min === undefined ? -Infinity : o.min, most = o.max === undefined ? Infinity : o.max;
      const good = input.value !== "" && v >= least && v <= most && (!Number.isInteger(o.step || 1) || Number.isInteger(v));
      fault.textContent = good ? "" : "should be " + (Number.isInteger(o.step || 1) ? "a whole number " : "") + "from " + o.min + " to " + o.max;
      input.setAttribute("aria-invalid", String(!good));
      if (good) f(v);
    });
    return control;
  }

  function text(o) {
    const input = h("input", { type: "text", placeholder: o.placeholder, maxlength: o.maxlength, autocomplete: "off", spellcheck: "false" });
    return listening(input, "input", labelled(o.label, input), () => input.value, (v) => {
      if (input.value !== v) input.value = v;
    });
  }

  const button = (o) => ({ el: h("button", { type: "button", class: "ak-button", onclick: o.onClick }, o.label) });

  function output(o) { // a named value that follows the controls, not announced by itself
    const value = h("span", { class: "ak-value" });
    return { el: h("div", { class: "ak-control" }, h("span", {}, o.label), value), set(v) { value.textContent = v; } };
  }

  const fold = (summary, ...children) => h("details", { class: "ak-fold" }, h("summary", {}, summary), children);

  /* ---------- the page's colours ---------- */

  function onTheme(el, f) {
    const watch = new MutationObserver(f), wishes = globalThis.matchMedia("(prefers-color-scheme: dark)");
    watch.observe(page.documentElement, { attributes: true, attributeFilter: ["data-theme", "theme", "class"] });
    if (page.body) watch.observe(page.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-vscode-theme-kind"] });
    if (wishes.addEventListener) wishes.addEventListener("change", f);
    const size = globalThis.ResizeObserver ? new ResizeObserver(f) : null;
    if (size) size.observe(el);
    if (ak.ui.collect) ak.ui.collect.push(() => { // while a view is being drawn, its own list of things to undo
      watch.disconnect();
      if (size) size.disconnect();
      if (wishes.removeEventListener) wishes.removeEventListener("change", f);
    });
  }

  /* Calls f once now-ish and whenever the element's width or the page's colours change. */
  function redrawn(el, f) {
    let width = -1, look = "";
    const again = () => {
      const style = getComputedStyle(el), now = style.color + style.backgroundColor;
      if (!el.clientWidth || (el.clientWidth === width && now === look)) return;
      width = el.clientWidth;
      look = now;
      f();
    };
    onTheme(el, again);
  }

  /* ---------- heat map ---------- */

  const UNIT = "Arrow keys move the cell, Home and End along the row, Page Up and Page Down by rows.";
  /* heat({rows, columns, rowName(i), columnName(j), label, rowTitle, columnTitle, onMove(i, j)})
       cell: widest cell in px (44); labels: false leaves the names out; numbers: false leaves the digits out; digits: 2
     -> {el, update({values (rows * columns, flat; NaN draws an empty cell), limits: [low, high], row, column, ...any of
     the above})}. The cursor (row, column) is the caller's: onMove asks for a move, `update` makes it. */
  function heat(first) {
    const o = Object.assign({ cell: 44, labels: true, digits: 2, rowTitle: "query", columnTitle: "key", row: 0, column: 0,
      values: null, limits: [0, 1], rowName: String, columnName: String }, first);
    const help = h("span", { class: "ak-hidden", id: unique("h") }, UNIT);
    const canvas = h("canvas", { class: "ak-canvas" });
    const pad = h("div", { class: "ak-heat", role: "application", tabindex: "0", "aria-label": o.label,
      "aria-roledescription": "heat map", "aria-describedby": help.id }, canvas);
    const box = h("div", { class: "ak-heatbox" }, pad, help);
    let place = null; // where the cells lie, in css px: {x, y, w, h}
    const move = (i, j) => {
      const r = Math.min(Math.max(i, 0), o.rows - 1), c = Math.min(Math.max(j, 0), o.columns - 1);
      if (o.onMove) o.onMove(r, c);
    };
    pad.addEventListener("keydown", (event) => {
      if (event.altKey || event.metaKey) return;
      const page8 = Math.max(1, Math.min(8, o.rows >> 1)), far = event.ctrlKey ? 8 : 1;
      const to = { ArrowUp: [o.row - far, o.column], ArrowDown: [o.row + far, o.column], ArrowLeft: [o.row, o.column - far],
        ArrowRight: [o.row, o.column + far], Home: [event.ctrlKey ? 0 : o.row, 0], End: [event.ctrlKey ? o.rows : o.row, o.columns],
        PageUp: [o.row - page8, o.column], PageDown: [o.row + page8, o.column] }[event.key];
      if (!to) return;
      event.preventDefault();
      move(to[0], to[1]);
    });
    const point = (event) => {
      if (!place) return;
      const at = canvas.getBoundingClientRect(), x = event.clientX - at.left - place.x, y = event.clientY - at.top - place.y;
      if (x >= 0 && y >= 0 && x < place.w * o.columns && y < place.h * o.rows) move(Math.floor(y / place.h), Math.floor(x / place.w));
    };
    canvas.addEventListener("click", point);
    canvas.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse" && event.buttons === 1) point(event); });

    let bitmap = null, painted = null;
    function paint() { // one pixel a cell
      bitmap = bitmap || page.createElement("canvas");
      bitmap.width = o.columns;
      bitmap.height = o.rows;
      const ink = bitmap.getContext("2d"), image = ink.createImageData(o.columns, o.rows), low = o.limits[0];
      const span = o.limits[1] - low || 1, lut = [];
      for (let i = 0; i < 256; i++) lut.push(math.colour(i / 255));
      for (let i = 0; i < o.values.length; i++) {
        const v = o.values[i];
        if (Number.isNaN(v)) continue; // stays see-through
        const c = lut[Math.min(255, Math.max(0, Math.round((v - low) / span * 255)))];
        image.data[4 * i] = c[0];
        image.data[4 * i + 1] = c[1];
        image.data[4 * i + 2] = c[2];
        image.data[4 * i + 3] = 255;
      }
      ink.putImageData(image, 0, 0);
    }

    function draw() {
      const width = box.clientWidth;
      if (!width || !o.values) return;
      if (painted !== o.values) { paint(); painted = o.values; }
      const style = getComputedStyle(box), font = "12px " + style.fontFamily, ink = canvas.getContext("2d"), dense = globalThis.devicePixelRatio || 1;
      ink.font = font;
      const widest = (n, name) => { let w = 0; for (let i = 0; i < n; i += i < 64 && n - i > 2 ? 1 : n - i > 64 ? 64 : 1) w = Math.max(w, ink.measureText(name(i)).width); return w; };
      const left = o.labels ? Math.min(widest(o.rows, o.rowName), width * 0.3) + 26 : 1;
      const room = Math.min(o.cell, (width - left - 2) / o.columns), tall = Math.min(room, 600 / o.rows);
      const cell = room < 14 ? tall : room; // dense maps keep square cells
      const turned = o.labels && widest(o.columns, o.columnName) > cell - 4;
      const top = o.labels ? (turned ? Math.min(widest(o.columns, o.columnName), 90) : 14) + 24 : 1;
      place = { x: left, y: top, w: cell, h: tall };
      const w = left + cell * o.columns + 2, high = top + tall * o.rows + 2;
      canvas.width = Math.round(w * dense);
      canvas.height = Math.round(high * dense);
      canvas.style.width = w + "px";
      canvas.style.height = high + "px";
      ink.setTransform(dense, 0, 0, dense, 0, 0);
      ink.imageSmoothingEnabled = cell * dense < 1;
      ink.drawImage(bitmap, left, top, cell * o.columns, tall * o.rows);
      ink.font = font;
      ink.fillStyle = ink.strokeStyle = style.color;
      ink.textBaseline = "middle";
      for (let k = 0; k < o.values.length && cell > 6; k++) if (Number.isNaN(o.values[k])) {
        ink.fillRect(left + (k % o.columns + 0.5) * cell - 1, top + (Math.floor(k / o.columns) + 0.5) * tall - 1, 2, 2);
      }
      if (o.labels) names(ink, left, top, cell, tall, turned);
      if (o.numbers !== false && cell >= 30 && tall >= 16) digits(ink, left, top, cell, tall);
      cursor(ink, left, top, cell, tall, style);
    }

    function cut(ink, name, room) {
      let s = String(name);
      if (ink.measureText(s).width <= room) return s;
      while (s.length > 1 && ink.measureText(s + "…").width > room) s = s.slice(0, -1);
      return s + "…";
    }

    function names(ink, left, top, cell, tall, turned) {
      const every = (size) => [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((n) => n * size >= 14) || 2000;
      const everyRow = every(tall), everyColumn = every(cell);
      ink.textAlign = "right";
      for (let i = 0; i < o.rows; i += everyRow) ink.fillText(cut(ink, o.rowName(i), left - 26), left - 5, top + (i + 0.5) * tall);
      for (let j = 0; j < o.columns; j += everyColumn) {
        ink.save();
        ink.translate(left + (j + 0.5) * cell, top - 5);
        if (turned) ink.rotate(-Math.PI / 2);
        ink.textAlign = turned ? "left" : "center";
        ink.textBaseline = turned ? "middle" : "bottom";
        ink.fillText(cut(ink, o.columnName(j), turned ? top - 24 : 200), 0, 0);
        ink.restore();
      }
      ink.textAlign = "center";
      ink.save();
      ink.textBaseline = "top";
      ink.fillText(o.columnTitle + " →", left + Math.max(cell * o.columns / 2, 20), 1);
      ink.translate(8, top + Math.max(tall * o.rows / 2, 24));
      ink.rotate(-Math.PI / 2);
      ink.textBaseline = "middle";
      ink.fillText("← " + o.rowTitle, 0, 0);
      ink.restore();
    }

    function digits(ink, left, top, cell, tall) {
      const span = o.limits[1] - o.limits[0] || 1;
      ink.textAlign = "center";
      for (let k = 0; k < o.values.length; k++) {
        const v = o.values[k];
        if (Number.isNaN(v)) continue;
        ink.fillStyle = math.inkOn(math.colour((v - o.limits[0]) / span));
        ink.fillText(math.fixed(v, o.digits), left + (k % o.columns + 0.5) * cell, top + (Math.floor(k / o.columns) + 0.5) * tall + 1, cell - 2);
      }
    }

    function cursor(ink, left, top, cell, tall, style) {
      const frame = (x, y, w, t, grow) => { // light on dark on light: seen on every ground
        for (const [line, paint] of [[4, "#000000"], [2, "#ffffff"]]) {
          ink.lineWidth = line;
          ink.strokeStyle = paint;
          ink.strokeRect(x - grow, y - grow, w + 2 * grow, t + 2 * grow);
        }
      };
      if (cell > 3) {
        ink.lineWidth = 2;
        ink.strokeStyle = style.color;
        ink.strokeRect(left, top + o.row * tall, cell * o.columns, tall);
      }
      frame(left + o.column * cell, top + o.row * tall, cell, tall, cell < 8 ? 3 : -1);
    }

    redrawn(box, draw);
    return {
      el: box, input: pad, get place() { return place; },
      update(patch) {
        Object.assign(o, patch);
        o.row = Math.min(o.row, o.rows - 1);
        o.column = Math.min(o.column, o.columns - 1);
        if (patch.limits) painted = null;
        if (patch.label) pad.setAttribute("aria-label", patch.label);
        draw();
      },
    };
  }

  /* legend([low, high], digits) -> {el, set([low, high])}: what the colours mean; numbers or texts. */
  function legend(limits, digits) {
    const stops = [];
    for (let i = 0; i <= 8; i++) stops.push("rgb(" + math.colour(i / 8).join(",") + ")");
    const bar = h("span", { class: "ak-scale", style: "background:linear-gradient(to right," + stops.join(",") + ")", role: "presentation" });
    const low = h("span"), high = h("span"), el = h("div", { class: "ak-legend" }, low, bar, high);
    const text = (x) => (typeof x === "string" ? x : math.fixed(x, digits));
    const set = (to) => { low.textContent = text(to[0]); high.textContent = text(to[1]); };
    set(limits);
    return { el, set };
  }

  /* ---------- table: the same numbers, a window of them when there are many ---------- */

  const WINDOW = [24, 16];
  /* grid({rows, columns, rowName, columnName, cell(i, j) -> text, caption, corner}) -> {el, update(patch)}.
     With `row` and `column` in the patch, the window moves so that they are in it, and that cell is marked. */
  function grid(first) {
    const o = Object.assign({ rowName: String, columnName: String, corner: "", row: 0, column: 0 }, first);
    const start = [0, 0], table = h("table", { class: "ak-table" }), where = h("span", { class: "ak-value" });
    const scroll = h("div", { class: "ak-scroll", tabindex: "0", role: "group", "aria-label": o.caption }, table);
    const sizes = () => [o.rows, o.columns];
    const step = (axis, sign) => () => {
      start[axis] = Math.min(Math.max(start[axis] + sign * WINDOW[axis], 0), Math.max(sizes()[axis] - WINDOW[axis], 0));
      draw();
    };
    const buttons = [button({ label: "Earlier rows", onClick: step(0, -1) }), button({ label: "Later rows", onClick: step(0, 1) }),
      button({ label: "Earlier columns", onClick: step(1, -1) }), button({ label: "Later columns", onClick: step(1, 1) })];
    const moves = row(buttons, where), el = h("div", { class: "ak-grid" }, moves, scroll);
    function draw() {
      const size = sizes(), end = size.map((n, axis) => Math.min(n, start[axis] + WINDOW[axis])), all = size.every((n, axis) => n <= WINDOW[axis]);
      moves.hidden = all;
      buttons.forEach((b, i) => {
        b.el.hidden = size[i >> 1] <= WINDOW[i >> 1];
        b.el.disabled = i % 2 ? end[i >> 1] >= size[i >> 1] : start[i >> 1] === 0;
      });
      where.textContent = ["rows", "columns"].map((word, axis) => (size[axis] <= WINDOW[axis] ? "" :
        `${word} ${start[axis]} to ${end[axis] - 1} of ${size[axis]}`)).filter(Boolean).join(", ");
      const js = [], is = [];
      for (let j = start[1]; j < end[1]; j++) js.push(j);
      for (let i = start[0]; i < end[0]; i++) is.push(i);
      scroll.setAttribute("aria-label", o.caption);
      table.replaceChildren(h("caption", {}, o.caption),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, o.corner), js.map((j) => h("th", { scope: "col" }, o.columnName(j))))),
        h("tbody", {}, is.map((i) => h("tr", { class: i === o.row ? "ak-here" : null }, h("th", { scope: "row" }, o.rowName(i)),
          js.map((j) => h("td", { class: i === o.row && j === o.column ? "ak-here" : null }, o.cell(i, j)))))));
    }
    return {
      el,
      update(patch) {
        Object.assign(o, patch);
        sizes().forEach((n, axis) => {
          const wish = axis ? patch.column : patch.row;
          if (wish !== undefined && (wish < start[axis] || wish >= start[axis] + WINDOW[axis])) start[axis] = wish - (WINDOW[axis] >> 1);
          start[axis] = Math.min(Math.max(start[axis], 0), Math.max(n - WINDOW[axis], 0));
        });
        if (!el.hidden) draw();
      },
    };
  }

  /* ---------- chart: lines over x, with a place on x that can be dragged ---------- */

  function ticks(low, high, most) {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough), out = [];
    for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-9; t += step) out.push(Math.abs(t) < step * 1e-9 ? 0 : t);
    return out;
  }

  /* chart({label, xlabel, ylabel, height, onPick(x)}) -> {el, update({x, series: [{name, y, dots}], at, limits, label})}.
     A number y for each x, drawn as a line, or with `dots` as points; `at` marks an x; onPick is asked with the nearest x when the reader drags.
     Give the reader a slider for the same x: that is the way by keyboard. */
  function chart(first) {
    const o = Object.assign({ height: 260, series: [], x: [], xlabel: "", ylabel: "" }, first);
    const picture = svg("svg", { role: "img", class: "ak-chart" }), key = h("div", { class: "ak-legend" });
    const box = h("div", { class: "ak-chartbox" }, picture, key);
    let plot = null;
    const pick = (event) => {
      if (!plot || !o.onPick) return;
      const x = plot.back(event.clientX - picture.getBoundingClientRect().left);
      o.onPick(Array.from(o.x).reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a)));
    };
    picture.addEventListener("pointerdown", (event) => {
      if (picture.setPointerCapture) picture.setPointerCapture(event.pointerId);
      pick(event);
    });
    picture.addEventListener("pointermove", (event) => { if (event.buttons) pick(event); });
    if (o.onPick) picture.classList.add("ak-draggable");

    function draw() {
      const width = Math.min(box.clientWidth, 760), high = o.height;
      if (!width || !o.x.length) return;
      const left = 58, right = 12, top = 26, below = 44, lowX = Math.min(...o.x), highX = Math.max(...o.x);
      let low = Infinity, most = -Infinity;
      for (const s of o.series) for (const v of s.y) if (Number.isFinite(v)) { low = Math.min(low, v); most = Math.max(most, v); }
      if (o.limits) [low, most] = o.limits;
      if (!(most > low)) { low -= 1; most += 1; }
      const px = (x) => left + (x - lowX) / (highX - lowX || 1) * (width - left - right);
      const py = (y) => top + (most - y) / (most - low) * (high - top - below);
      plot = { back: (p) => lowX + (p - left) / (width - left - right) * (highX - lowX) };
      const parts = [];
      for (const t of ticks(low, most, 5)) parts.push(svg("line", { x1: left, x2: width - right, y1: py(t), y2: py(t), class: "ak-gridline" }),
        svg("text", { x: left - 6, y: py(t) + 4, "text-anchor": "end" }, String(Number(t.toPrecision(6))).replace("-", "−")));
      for (const t of ticks(lowX, highX, width < 420 ? 5 : 9)) parts.push(
        svg("text", { x: px(t), y: high - below + 18, "text-anchor": "middle" }, String(Number(t.toPrecision(6))).replace("-", "−")));
      parts.push(svg("text", { x: left + (width - left - right) / 2, y: high - 6, "text-anchor": "middle" }, o.xlabel),
        svg("text", { x: 4, y: 14 }, o.ylabel));
      if (o.at !== undefined) parts.push(svg("line", { x1: px(o.at), x2: px(o.at), y1: top, y2: high - below, class: "ak-at" }));
      o.series.forEach((s, k) => {
        const path = Array.from(s.y).map((v, i) => (Number.isFinite(v) ? px(o.x[i]).toFixed(1) + "," + py(v).toFixed(1) : "")).filter(Boolean).join(" ");
        const paint = SERIES[k % SERIES.length];
        if (s.dots) path.split(" ").forEach((at) => parts.push(svg("circle", { cx: at.split(",")[0], cy: at.split(",")[1], r: 2.2, fill: paint })));
        else parts.push(svg("polyline", { points: path, fill: "none", stroke: paint, "stroke-width": 2, "stroke-dasharray": DASHES[k % DASHES.length] }));
        const here = Array.from(o.x).indexOf(o.at);
        if (here >= 0 && Number.isFinite(s.y[here])) parts.push(svg("circle", { cx: px(o.at), cy: py(s.y[here]), r: 5, fill: paint, class: "ak-dot" }));
      });
      fill(picture, { width, height: high, viewBox: `0 0 ${width} ${high}`, "aria-label": o.label }, []).replaceChildren(...parts);
      key.replaceChildren(...(o.series.length < 2 ? [] : o.series.map((s, k) => h("span", { class: "ak-key" },
        svg("svg", { width: 28, height: 10, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 28, y1: 5, y2: 5, stroke: SERIES[k % SERIES.length],
          "stroke-width": 2, "stroke-dasharray": DASHES[k % DASHES.length] })), s.name))));
    }
    redrawn(box, draw);
    return { el: box, update(patch) { Object.assign(o, patch); draw(); } };
  }

  /* ---------- style ---------- */

  const CSS = `
.ak-explorer { --ak-own-ink: #1b1b1b; --ak-own-ground: #ffffff; --ak-own-line: #767676; --ak-own-blue: #0b5cad; }
@media (prefers-color-scheme: dark) { html:not([data-theme="light"]):not([theme="light"]) .ak-explorer { --ak-own-ink: #ececec; --ak-own-ground: #181818; --ak-own-line: #8c8c8c; --ak-own-blue: #7ab8ff; } }
html[data-theme="dark"] .ak-explorer, html[theme="dark"] .ak-explorer { --ak-own-ink: #ececec; --ak-own-ground: #181818; --ak-own-line: #8c8c8c; --ak-own-blue: #7ab8ff; }
.ak-explorer .ak-frame { --ak-ink: var(--pst-color-text-base, var(--jp-content-font-color1, var(--vscode-editor-foreground, var(--ak-own-ink))));
  --ak-ground: var(--pst-color-background, var(--jp-layout-color0, var(--vscode-editor-background, var(--ak-own-ground)))); --ak-line: var(--ak-own-line); --ak-blue: var(--ak-own-blue);
  color: var(--ak-ink); background: var(--ak-ground); border: 1px solid var(--ak-line); border-radius: .4rem; padding: .7rem .8rem; margin: 1rem 0;
  font: 400 .95rem/1.4 system-ui, sans-serif; max-width: 100%; box-sizing: border-box; min-width: 0; }
.ak-explorer .ak-frame * { box-sizing: border-box; }
.ak-explorer[data-ak-alive] > .ak-fallback { display: none; }
.ak-frame [hidden] { display: none !important; }
.ak-frame .ak-title { font-weight: 650; margin-bottom: .4rem; }
.ak-frame .ak-row { display: flex; flex-wrap: wrap; gap: .35rem 1rem; align-items: center; margin: .3rem 0; }
.ak-frame .ak-control { display: inline-flex; flex-wrap: wrap; gap: .15rem .5rem; align-items: center; min-height: 28px; max-width: 100%; }
.ak-frame label { margin: 0; font-weight: 400; }
.ak-frame .ak-check { display: inline-flex; gap: .4rem; align-items: center; min-height: 28px; cursor: pointer; }
.ak-frame input, .ak-frame select, .ak-frame button { font: inherit; color: inherit; accent-color: var(--ak-blue); max-width: 100%; margin: 0; }
.ak-frame input[type="checkbox"] { width: 24px; height: 24px; }
.ak-frame input[type="range"] { width: 10rem; height: 28px; flex: 0 1 10rem; min-width: 5rem; }
.ak-frame .ak-control:has(input[type="range"]) { flex-wrap: nowrap; }
.ak-frame input[type="number"] { width: 7rem; }
.ak-frame select, .ak-frame input[type="number"], .ak-frame input[type="text"], .ak-frame .ak-button { min-height: 32px; padding: .1rem .5rem; background: var(--ak-ground);
  border: 1px solid var(--ak-line); border-radius: .3rem; }
.ak-frame option { background: var(--ak-ground); color: var(--ak-ink); }
.ak-frame .ak-button { cursor: pointer; min-width: 32px; }
.ak-frame .ak-button:disabled { opacity: .5; cursor: default; }
.ak-frame .ak-button[aria-pressed="true"] { border-color: var(--ak-blue); box-shadow: inset 0 0 0 1px var(--ak-blue); font-weight: 650; }
.ak-frame :focus-visible { outline: 3px solid var(--ak-blue); outline-offset: 2px; }
.ak-frame .ak-value { font-variant-numeric: tabular-nums; font-weight: 600; }
.ak-frame .ak-fault { font-weight: 650; }
.ak-frame .ak-live { min-height: 1.4em; font-variant-numeric: tabular-nums; margin-top: .3rem; }
.ak-frame .ak-heat { display: inline-block; max-width: 100%; line-height: 0; touch-action: manipulation; cursor: crosshair; }
.ak-frame .ak-heatbox, .ak-frame .ak-chartbox { width: 100%; min-width: 0; }
.ak-frame .ak-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.ak-frame .ak-legend { display: flex; flex-wrap: wrap; gap: .2rem .6rem; align-items: center; font-size: .85rem; font-variant-numeric: tabular-nums; }
.ak-frame .ak-scale { width: 8rem; height: .8rem; border: 1px solid var(--ak-line); forced-color-adjust: none; }
.ak-frame .ak-key { display: inline-flex; gap: .35rem; align-items: center; }
.ak-frame .ak-scroll { overflow-x: auto; max-width: 100%; }
.ak-frame .ak-table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .3rem 0; width: auto; color: inherit; }
.ak-frame .ak-table caption { caption-side: top; text-align: left; color: inherit; padding: .1rem 0; }
.ak-frame .ak-table th, .ak-frame .ak-table td { padding: .15rem .5rem; text-align: right; border: 0; border-bottom: 1px solid var(--ak-line); background: none; color: inherit; }
.ak-frame .ak-table th[scope="row"] { text-align: left; }
.ak-frame .ak-table tr.ak-here > *, .ak-frame .ak-table td.ak-here { font-weight: 700; }
.ak-frame .ak-table td.ak-here { outline: 2px solid var(--ak-blue); outline-offset: -2px; }
.ak-frame .ak-fold { margin: .4rem 0; }
.ak-frame .ak-fold > summary { cursor: pointer; min-height: 28px; width: fit-content; }
.ak-frame .ak-chart { display: block; max-width: 100%; font-size: 12px; overflow: visible; }
.ak-frame .ak-chart text { fill: currentColor; }
.ak-frame .ak-draggable { cursor: ew-resize; touch-action: pan-y; }
.ak-frame .ak-gridline { stroke: currentColor; stroke-opacity: .2; }
.ak-frame .ak-at { stroke: currentColor; stroke-width: 1.5; stroke-dasharray: 3 3; }
.ak-frame .ak-dot { stroke: var(--ak-ground); stroke-width: 1.5; }
@media (max-width: 480px) { .ak-frame .ak-row { gap: .35rem .7rem; } .ak-explorer .ak-frame { padding: .5rem; } }
@media (prefers-reduced-motion: reduce) { .ak-frame * { transition: none !important; animation: none !important; } }
@media print { .ak-explorer > .ak-frame { display: none; } .ak-explorer[data-ak-alive] > .ak-fallback { display: block; } }
`;

  function style(el) { // once a document, or once a shadow root
    const home = el.getRootNode(), to = home.head || (home.host ? home : page.head), id = "ak-style-" + ak.version;
    if (to.querySelector("[data-ak='" + id + "']")) return;
    const tag = page.createElement("style");
    tag.setAttribute("data-ak", id);
    tag.textContent = CSS;
    to.appendChild(tag);
  }

  ak.ui = { h, svg, row, range, select, check, number, text, button, output, fold, heat, legend, grid, chart, style, element, unique, SERIES, DASHES };
  ak.hydrate();
})(globalThis.attnkitExplorer);
