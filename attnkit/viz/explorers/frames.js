/* Pictures made beforehand, one for each combination of choices, switched without a kernel (attnkit.viz.play).

   spec: names; labels: for each name the texts of its values; numeric: is it a slider?; lines: all different lines of all
   frames; frames: for each combination, the last name running fastest, runs of lines as [first, count, first, count, ...] */
(function (ak) {
  "use strict";

  function initial(spec) {
    return { choice: spec.names.map(() => 0) };
  }

  function compute(spec, state) {
    const at = spec.labels.reduce((place, labels, i) => place * labels.length + state.choice[i], 0), runs = spec.frames[at], lines = [];
    for (let k = 0; k < runs.length; k += 2) lines.push(...spec.lines.slice(runs[k], runs[k] + runs[k + 1]));
    return { at, html: lines.join("\n"), said: spec.names.map((name, i) => `${name} ${spec.labels[i][state.choice[i]]}`).join(", ") };
  }

  function draw(view) {
    const { ui, spec } = view, h = ui.h, picture = h("div", { class: "ak-picture" }), css = h("style", {}, ".ak-frame .ak-figure { margin: 0; }");
    const controls = spec.names.map((name, i) => {
      const labels = spec.labels[i], control = spec.numeric[i] && labels.length > 1
        ? ui.range({ label: name, min: 0, max: labels.length - 1, step: 1, format: (k) => labels[k] })
        : ui.select({ label: name, options: labels.map((label, k) => [k, label]) });
      control.onInput((k) => view.set({ choice: view.state.choice.map((old, j) => (j === i ? Number(k) : old)) }));
      return control;
    });
    view.el.append(css, ui.row(controls), picture);
    let shown = null;
    return (result, state) => {
      controls.forEach((control, i) => control.set(state.choice[i]));
      if (result.at === shown) return;
      const open = Array.from(picture.querySelectorAll("details"), (fold) => fold.open);
      picture.innerHTML = result.html;
      picture.querySelectorAll("details").forEach((fold, i) => { fold.open = Boolean(open[i]); });
      if (shown !== null) view.announce(result.said);
      shown = result.at;
    };
  }

  ak.register("frames", { initial, compute, draw });
})(globalThis.attnkitExplorer);
