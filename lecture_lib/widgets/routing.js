// Experts while they train: the load of each, what is dropped, and what comes of it, for several cures of collapse.
const WIDTH = 520, HEIGHT = 312, LEFT = 64, RIGHT = 506, TOP = 42, BOTTOM = 248; // of each picture, in its own units

// load[cure][step] is a row of shares, one for each expert.
function unpack({ runs, step, experts }) {
  return Object.fromEntries(runs.map((run) => {
    const flat = floatsOf(run.load);
    return [run.cure, { ...run, load: step.map((_, i) => Array.from(flat.subarray(i * experts, (i + 1) * experts))) }];
  }));
}
// How unequal a load is: the busiest expert over the mean one, and how many have nothing.
function summary(load) {
  const mean = load.reduce((sum, share) => sum + share, 0) / load.length;
  return { mean, busiest: Math.max(...load) / mean, idle: load.filter((share) => share === 0).length };
}

function radios(label, options, onChange) {
  const group = unique();
  const inputs = options.map((value) => {
    const input = html("input", { type: "radio", name: group, value, ...keepKeys });
    input.addEventListener("change", () => onChange(value));
    return { input, node: html("label", {}, input, value) };
  });
  return {
    node: html("span", { role: "radiogroup", "aria-label": label, class: "ll-radios" }, ...inputs.map(({ node }) => node)),
    show(value) { for (const { input } of inputs) input.checked = input.value === value; },
  };
}

const line = (from, to, className) => svg("path", { d: `M${from}L${to}`, class: className });
function upright({ values, decimals }, y) { // an axis to the left
  return [svg("path", { d: `M${LEFT} ${TOP}V${BOTTOM}` + values.map((v) => `M${LEFT} ${y(v).toFixed(1)}h-5`).join(""), class: "ll-axis", fill: "none" }),
    ...values.map((v) => svg("text", { x: LEFT - 10, y: y(v) + 7, "text-anchor": "end" }, v.toFixed(decimals)))];
}

function loadPanel(runs, experts) {
  const most = Math.max(...Object.values(runs).flatMap((run) => run.load.flat()));
  const y = scale(0, 1.02 * most, BOTTOM, TOP), column = (e) => LEFT + (e + 0.5) * (RIGHT - LEFT) / experts;
  const wide = Math.min(54, 0.72 * (RIGHT - LEFT) / experts);
  const bars = Array.from({ length: experts }, (_, e) =>
    svg("rect", { x: column(e) - wide / 2, width: wide, class: "ll-bar ll-solid ll-counted" }));
  const crosses = bars.map((_, e) => svg("path", { class: "ll-cross", d: `M${column(e) - 6} ${BOTTOM - 16}l12 12m0 -12l-12 12` }));
  const mean = svg("path", { class: "ll-mean" }), centred = { "text-anchor": "middle" };
  const panel = picture("Load of each expert", WIDTH, HEIGHT, ...bars, mean, ...crosses, ...upright(ticks(0, 1.02 * most, 5), y),
    line([LEFT, BOTTOM], [RIGHT, BOTTOM], "ll-axis"),
    svg("text", { x: 2, y: 20 }, "load, as a share"),
    legend(232, 13, line([-14, 0], [12, 0], "ll-mean"), "mean"), legend(344, 13, svg("path", { class: "ll-cross", d: "M-6 -6l12 12m0 -12l-12 12" }), "idle"),
    ...bars.map((_, e) => svg("text", { x: column(e), y: BOTTOM + 26, ...centred }, experts > 12 && e % 2 ? "" : e + 1)),
    svg("text", { x: (LEFT + RIGHT) / 2, y: HEIGHT - 8, ...centred }, "expert"));
  return {
    node: panel.node,
    show(load, name) {
      load.forEach((share, e) => {
        move(bars[e], { y: y(share), height: BOTTOM - y(share) });
        bars[e].style.display = share ? "" : "none";
        crosses[e].style.display = share ? "none" : "";
      });
      move(mean, { d: `M${LEFT} ${y(summary(load).mean).toFixed(1)}H${RIGHT}` });
      panel.describe(`${name}: ` + load.map((share, e) => `expert ${e + 1} ${share.toFixed(3)}`).join(", "));
    },
  };
}

function curvePanel(runs, step, quality) {
  const all = Object.values(runs).flatMap((run) => run.quality), low = Math.min(...all), high = Math.max(...all);
  const room = Math.max(0.06 * (high - low), 1e-6 * Math.max(1, Math.abs(high)));
  const x = scale(step[0], step.at(-1), LEFT, RIGHT), y = scale(low - room, high + room, BOTTOM, TOP);
  const across = ticks(step[0], step.at(-1), 5), xs = step.map(x);
  const curves = Object.fromEntries(Object.entries(runs).map(([cure, run]) =>
    [cure, svg("polyline", { points: points(xs, run.quality.map(y)), class: "ll-line ll-other" })]));
  const chosen = svg("polyline", { class: "ll-line ll-chosen ll-counted" }), now = svg("path", { class: "ll-reference" });
  const mark = circle(9, "ll-current ll-counted");
  const panel = picture(`${quality} while training`, WIDTH, HEIGHT, ...upright(ticks(low - room, high + room, 5), y),
    svg("path", { class: "ll-axis", fill: "none", d: `M${LEFT} ${BOTTOM}H${RIGHT}` + across.values.map((v) => `M${x(v).toFixed(1)} ${BOTTOM}v5`).join("") }),
    now, ...Object.values(curves), chosen, mark, svg("text", { x: 2, y: 20 }, quality),
    legend(232, 13, line([-14, 0], [12, 0], "ll-line ll-chosen ll-counted"), "chosen"), legend(362, 13, line([-14, 0], [12, 0], "ll-line ll-other"), "the others"),
    ...across.values.map((v) => svg("text", { x: x(v), y: BOTTOM + 26, "text-anchor": "middle" }, v.toFixed(across.decimals))),
    svg("text", { x: (LEFT + RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "training step"));
  return {
    node: panel.node,
    show(cure, i, name) {
      const value = runs[cure].quality[i];
      move(chosen, { points: curves[cure].getAttribute("points") });
      at(mark, xs[i], y(value));
      move(now, { d: `M${xs[i].toFixed(1)} ${TOP}V${BOTTOM}` });
      panel.describe(`${name}: ${quality} ${value.toPrecision(3)}`);
    },
  };
}

function view(model, el) {
  const data = model.get("_data"), { step, experts, quality } = data, runs = unpack(data);
  const change = (name, value) => { model.set(name, value); model.save_changes(); };
  const time = stops("training step", step, (value) => change("step", value));
  const cure = radios("cure", Object.keys(runs), (value) => change("cure", value));
  const numbers = readouts([quality, "dropped tokens", "busiest expert", "idle experts"]);
  const left = loadPanel(runs, experts), right = curvePanel(runs, step, quality);
  el.classList.add("ll");
  el.replaceChildren(html("div", { class: "ll-controls" }, time.node), html("div", { class: "ll-controls ll-cures" }, cure.node), numbers.node,
    html("div", { class: "ll-panels" }, html("div", {}, left.node), html("div", {}, right.node)));
  return redrawOn(model, ["step", "cure"], () => {
    const name = model.get("cure"), i = step.indexOf(model.get("step")), run = runs[name], over = summary(run.load[i]);
    time.show(step[i]);
    cure.show(name);
    left.show(run.load[i], `${name}, step ${plain(step[i])}`);
    right.show(name, i, `${name}, step ${plain(step[i])}`);
    numbers.show([run.quality[i].toPrecision(3)], [percent(run.dropped[i])], [over.busiest.toFixed(1), "× mean"],
      [String(over.idle), `of ${experts}`]);
  });
}

const render = ({ model, el }) => view(model, el);

export default { render };
export { summary, unpack };
