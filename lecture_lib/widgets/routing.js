// Experts while they train: the load of each, what is dropped, and what comes of it, for several cures of collapse.
const WIDTH = 520;
const HEIGHT = 312; // of each picture, in its own units
const PLOT = { left: 64, right: 506, top: 42, bottom: 248 };

// load[cure][step] is a row of shares, one for each expert.
function unpack({ runs, experts }) {
  return Object.fromEntries(runs.map((run) => [run.cure, { ...run, load: rowsOf(floatsOf(run.load), experts) }]));
}
// How unequal a load is: the busiest expert over the mean one, and how many have nothing.
function summary(load) {
  const mean = sum(load) / load.length;
  return { mean, busiest: Math.max(...load) / mean, idle: load.filter((share) => share === 0).length };
}

function loadPanel(runs, experts) {
  const { left, right, top, bottom } = PLOT;
  const most = Math.max(...Object.values(runs).flatMap((run) => run.load.flat()));
  const y = scale(0, 1.02 * most, bottom, top);
  const column = (e) => left + ((e + 0.5) * (right - left)) / experts;
  const wide = Math.min(54, (0.72 * (right - left)) / experts);
  const bars = Array.from({ length: experts }, (_, e) =>
    svg("rect", { x: column(e) - wide / 2, width: wide, class: "ll-bar ll-solid ll-counted" }),
  );
  const crosses = bars.map((_, e) => at(cross(6), column(e), bottom - 10));
  const { values, decimals } = ticks(0, 1.02 * most, 5);
  const mean = svg("path", { class: "ll-mean" });
  const centred = { "text-anchor": "middle" };
  const panel = picture(
    "Load of each expert",
    WIDTH,
    HEIGHT,
    ...bars,
    mean,
    ...crosses,
    ...axes(PLOT, [column, []], [y, values, fixed(decimals)]),
    svg("text", { x: 2, y: 24 }, "load, as a share"),
    ...bars.map((_, e) => svg("text", { x: column(e), y: bottom + 26, ...centred }, experts > 12 && e % 2 ? "" : e)),
    svg("text", { x: (left + right) / 2, y: HEIGHT - 8, ...centred }, "expert"),
  );
  return {
    node: [legend(lineEntry("ll-mean", "mean"), [cross(6), "idle"]), panel.node],
    show(load, name) {
      load.forEach((share, e) => {
        move(bars[e], { y: y(share), height: bottom - y(share) });
        bars[e].style.display = share ? "" : "none";
        crosses[e].style.display = share ? "none" : "";
      });
      move(mean, { d: `M${left} ${y(summary(load).mean).toFixed(1)}H${right}` });
      const said = load.map((share, e) => `expert ${e} ${share.toFixed(3)}`);
      panel.describe(`${name}: ${said.join(", ")}`);
    },
  };
}

function curvePanel(runs, step, quality) {
  const { left, right, top, bottom } = PLOT;
  const all = Object.values(runs).flatMap((run) => run.quality);
  const low = Math.min(0, ...all); // the axis starts there
  const high = Math.max(...all);
  const room = Math.max(0.06 * (high - low), 1e-6);
  const x = scale(step[0], step.at(-1), left, right);
  const y = scale(low, high + room, bottom, top);
  const across = ticks(step[0], step.at(-1), 5);
  const up = ticks(low, high + room, 5);
  const xs = step.map(x);
  const curves = Object.fromEntries(
    Object.entries(runs).map(([cure, run]) => [
      cure,
      svg("polyline", { points: points(xs, run.quality.map(y)), class: "ll-line ll-other" }),
    ]),
  );
  const chosen = svg("polyline", { class: "ll-line ll-chosen ll-counted" });
  const now = svg("path", { class: "ll-reference" });
  const mark = circle(9, "ll-current ll-counted");
  const panel = picture(
    `${quality} while training`,
    WIDTH,
    HEIGHT,
    ...axes(PLOT, [x, across.values, fixed(across.decimals)], [y, up.values, fixed(up.decimals)]),
    now,
    ...Object.values(curves),
    chosen,
    mark,
    svg("text", { x: 2, y: 24 }, quality),
    svg("text", { x: (left + right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "training step"),
  );
  return {
    node: [
      legend(lineEntry("ll-line ll-chosen ll-counted", "chosen"), lineEntry("ll-line ll-other", "the others")),
      panel.node,
    ],
    show(cure, i, name) {
      const value = runs[cure].quality[i];
      move(chosen, { points: curves[cure].getAttribute("points") });
      at(mark, xs[i], y(value));
      move(now, { d: `M${xs[i].toFixed(1)} ${top}V${bottom}` });
      panel.describe(`${name}: ${quality} ${value.toPrecision(3)}`);
    },
  };
}

function render({ model, el }) {
  const data = model.get("_data");
  const { step, experts, quality } = data;
  const runs = unpack(data);
  const time = stops(model, "step", "training step", step);
  const names = Object.keys(runs);
  const cure = radios(
    "cure",
    names.map((name) => [name, name]),
    (value) => setter(model)("cure", value),
  );
  const numbers = readouts([quality, "dropped tokens", "busiest expert", "idle experts"]);
  const left = loadPanel(runs, experts);
  const right = curvePanel(runs, step, quality);
  lay(el, controls(time.node), controls(cure.node), numbers.node, panels(left.node, right.node));
  return redrawOn(model, ["step", "cure"], () => {
    const name = model.get("cure");
    const i = step.indexOf(model.get("step"));
    const run = runs[name];
    const over = summary(run.load[i]);
    time.show(step[i]);
    cure.show(name);
    left.show(run.load[i], `${name}, step ${plain(step[i])}`);
    right.show(name, i, `${name}, step ${plain(step[i])}`);
    numbers.show(
      [run.quality[i].toPrecision(3)],
      [percent(run.dropped[i])],
      [over.busiest.toFixed(1), "× mean"],
      [String(over.idle), `of ${experts}`],
    );
  });
}

export default { render };
export { summary, unpack };
