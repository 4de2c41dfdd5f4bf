// What the widgets share. Python puts this file before each widget's own: one ES module, no imports, nothing fetched.

// ---- elements
const elements =
  (namespace) =>
  (tag, attributes = {}, ...children) => {
    const node = document.createElementNS(namespace, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
const svg = elements("http://www.w3.org/2000/svg");
const html = elements("http://www.w3.org/1999/xhtml");
const move = (node, attributes) => {
  for (const name in attributes) node.setAttribute(name, attributes[name]);
};
const write = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

let count = 0;
const unique = () => `ll-${Date.now().toString(36)}-${count++}`;

// A picture that is described in words: `describe(text)` after every change. Its style knows its width in its own units.
function picture(name, width, height, ...children) {
  const title = svg("title", {}, name);
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "ll-picture" }, title, ...children);
  node.style.setProperty("--ll-width", width);
  return {
    node,
    describe(text) {
      write(title, `${name}: ${text}`);
    },
  };
}

// On what takes keys: JupyterLab would read the arrow keys as commands to the notebook.
const keepKeys = { "data-lm-suppress-shortcuts": "true" };

// A native range input with its label and its value: keyboard, touch and screen reader come with it.
// The track runs over `steps` equal steps; `toValue` and `toShare` map [0, 1] to the value and back.
function slider({ label, steps = 100, toValue, toShare, format, onInput }) {
  const id = unique();
  const input = html("input", { type: "range", id, min: 0, max: steps, step: 1, ...keepKeys });
  const output = html("output", { for: id, "aria-live": "off" });
  input.addEventListener("input", () => onInput(toValue(input.value / steps)));
  return {
    node: html(
      "div",
      { class: "ll-slider", "data-prevent-swipe": "" },
      html("label", { for: id }, label),
      input,
      output,
    ),
    show(value) {
      input.value = Math.round(steps * toShare(value));
      output.textContent = format(value);
      input.setAttribute("aria-valuetext", `${label} ${output.textContent}`);
    },
  };
}
// The scale of a slider whose steps multiply: values from `low` to `high`, to three digits.
const logarithmic = (low, high) => ({
  toValue: (share) => Number((low * (high / low) ** share).toPrecision(3)),
  toShare: (value) => Math.log(value / low) / Math.log(high / low),
});

function button(label, onClick) {
  const node = html("button", { type: "button", class: "ll-button", ...keepKeys }, label);
  node.addEventListener("click", onClick);
  return node;
}

// Radio buttons; `options` are pairs of a value and its label.
function radios(label, options, onChange) {
  const group = unique();
  const inputs = options.map(([value]) => html("input", { type: "radio", name: group, value, ...keepKeys }));
  for (const input of inputs) input.addEventListener("change", () => onChange(input.value));
  const labels = inputs.map((input, i) => html("label", {}, input, options[i][1]));
  return {
    node: html("span", { role: "radiogroup", "aria-label": label, class: "ll-radios" }, ...labels),
    show(value) {
      for (const input of inputs) input.checked = input.value === value;
    },
  };
}

// A native menu of names.
function choices(label, names, onChange) {
  const menu = html("select", { class: "ll-button", ...keepKeys }, ...names.map((name) => html("option", {}, name)));
  menu.addEventListener("change", () => onChange(menu.value));
  return {
    node: html("label", { "data-prevent-swipe": "" }, label, " ", menu),
    show(name) {
      menu.value = name;
    },
  };
}

// What sets a trait, here and in Python.
const setter = (model) => (name, value) => {
  model.set(name, value);
  model.save_changes();
};
// The widget in its element: controls, text, and panels side by side, each of a node or of several.
const lay = (el, ...nodes) => {
  el.classList.add("ll");
  el.replaceChildren(...nodes);
};
const controls = (...nodes) => html("div", { class: "ll-controls" }, ...nodes);
const panels = (...nodes) =>
  html("div", { class: "ll-panels" }, ...nodes.map((node) => html("div", {}, ...[node].flat(2))));

// An upright bar for a share in [0, 1], with its value above.
function bar({ x, width, ground, height, className }) {
  const rect = svg("rect", { x, width, class: `ll-bar ${className}` });
  const value = svg("text", { x: x + width / 2, "text-anchor": "middle" });
  return {
    nodes: [rect, value],
    show(share) {
      move(rect, { y: ground - share * height, height: share * height });
      move(value, { y: ground - share * height - 9 });
      write(value, share.toFixed(2));
    },
  };
}

// Signs around (0, 0), and one moved to its place.
const circle = (r, className) => svg("circle", { r, class: className });
const square = (r, className) => svg("rect", { x: -r, y: -r, width: 2 * r, height: 2 * r, class: className });
const diamond = (r) => svg("path", { d: `M0 ${-r}L${r} 0L0 ${r}L${-r} 0Z`, class: "ll-mark" });
const cross = (r) => svg("path", { d: `M${-r} ${-r}L${r} ${r}M${-r} ${r}L${r} ${-r}`, class: "ll-cross" });
const at = (node, x, y) => {
  move(node, { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` });
  return node;
};
// A sign in a line of text, `half` a sign to each side of (0, 0).
const sign = (node, half = 12) =>
  svg("svg", { viewBox: `${-half} -12 ${2 * half} 24`, class: "ll-sign", "aria-hidden": "true" }, node);
// What the signs of a picture stand for, above it: it wraps where there is little room.
const legend = (...entries) =>
  html("p", { class: "ll-legend" }, ...entries.map(([node, text, half]) => html("span", {}, sign(node, half), text)));

// Redraws on every change of the traits named; returns what stops it. All views of a model redraw together.
function redrawOn(model, names, draw) {
  for (const name of names) model.on(`change:${name}`, draw);
  draw();
  return () => {
    for (const name of names) model.off(`change:${name}`, draw);
  };
}

// Builds a view anew on every change of the traits named; `build` returns what stops the view.
function rebuildOn(model, names, build) {
  let stop = () => {};
  const off = redrawOn(model, names, () => {
    stop();
    stop = build();
  });
  return () => {
    off();
    stop();
  };
}

// ---- mathematics
const sum = (values) => values.reduce((total, value) => total + value, 0);

function softmax(logits, temperature = 1) {
  const top = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp((logit - top) / temperature));
  const total = sum(weights);
  return weights.map((weight) => weight / total);
}
const argmax = (values) => values.indexOf(Math.max(...values));
