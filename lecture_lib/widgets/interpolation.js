// Along the line between two networks: the loss on both ways, and what some hidden units read.
const PLOT = { width: 520, height: 330, left: 64, right: 506, top: 46, bottom: 268 };
const WAYS = [
  ["plain", "ll-timed", square],
  ["matched", "ll-counted", circle],
];
const CELL = 76;
const GAP = 10;
const SHADES = 12; // a unit's picture, the room between two, the shades of each sign

// Weights of [network A, B, B matched], each of `count` units of side × side.
function unpack({ units, count, side }) {
  return rowsOf(floatsOf(units), count * side * side);
}
const between = (a, b, t) => a.map((value, i) => (1 - t) * value + t * b[i]);
// How far the loss at stop i lies above the straight line between its ends.
function excess(positions, loss, i) {
  const first = positions[0];
  const t = (positions[i] - first) / (positions.at(-1) - first);
  return loss[i] - ((1 - t) * loss[0] + t * loss.at(-1));
}

function lossPanel({ positions, loss }) {
  const { width, height, left, right, top, bottom } = PLOT;
  const high = 1.05 * Math.max(...loss.flat());
  const x = scale(positions[0], positions.at(-1), left, right);
  const y = scale(0, high, bottom, top);
  const xs = positions.map(x);
  const up = ticks(0, high, 5);
  const across = ticks(positions[0], positions.at(-1), 5);
  const heights = loss.map((way) => way.map(y));
  const lines = WAYS.map(([, name], k) =>
    svg("polyline", { points: points(xs, heights[k]), class: `ll-line ${name}` }),
  );
  const chord = svg("path", {
    class: "ll-reference",
    d: `M${xs[0]} ${heights[0][0]}L${xs.at(-1)} ${heights[0].at(-1)}`,
  });
  const marks = WAYS.map(([, name, shape]) => shape(9, `ll-current ${name}`));
  const lift = svg("path", { class: "ll-between" });
  const panel = picture(
    "Loss between two networks",
    width,
    height,
    ...axes(PLOT, [x, across.values, plain], [y, up.values, fixed(up.decimals)]),
    chord,
    ...lines,
    lift,
    ...marks,
    svg("text", { x: 2, y: top - 15 }, "test loss"),
    svg("text", { x: left, y: bottom + 54 }, "network A"),
    svg("text", { x: right, y: bottom + 54, "text-anchor": "end" }, "network B"),
  );
  return {
    node: [
      legend(
        curveEntry(square, "ll-timed", "plain"),
        curveEntry(circle, "ll-counted", "matched"),
        lineEntry("ll-reference", "no barrier"),
      ),
      panel.node,
    ],
    show(i, said) {
      marks.forEach((mark, k) => at(mark, xs[i], heights[k][i]));
      const line = y(loss[0][i] - excess(positions, loss[0], i));
      move(lift, { d: `M${xs[i].toFixed(1)} ${line.toFixed(1)}V${heights[0][i].toFixed(1)}` });
      panel.describe(said);
    },
  };
}

function unitPanel(data) {
  const { count, side } = data;
  const [a, b, matched] = unpack(data);
  const most = Math.max(...[a, b, matched].flat().map(Math.abs));
  const row = (top, label) => {
    const size = CELL / side;
    const squares = Array.from({ length: count * side * side }, (_, i) => {
      const unit = Math.floor(i / (side * side));
      const pixel = i % (side * side);
      const x = unit * (CELL + GAP) + (pixel % side) * size;
      const y = top + 26 + Math.floor(pixel / side) * size;
      return `M${x} ${y}h${size}v${size}h${-size}z`;
    });
    const shades = Array.from(
      { length: 2 * SHADES },
      (
        _,
        k, // one path for all squares of a shade: fast to redraw
      ) =>
        svg("path", {
          class: k < SHADES ? "ll-below" : "ll-over-zero",
          "fill-opacity": ((k % SHADES) + 1) / SHADES,
          "shape-rendering": "crispEdges",
        }),
    );
    const frames = Array.from({ length: count }, (_, unit) =>
      svg("rect", { x: unit * (CELL + GAP), y: top + 26, width: CELL, height: CELL, class: "ll-cell" }),
    );
    return {
      nodes: [svg("text", { x: 0, y: top + 16 }, label), ...shades, ...frames],
      show(weights) {
        const drawn = shades.map(() => "");
        weights.forEach((w, i) => {
          const shade = Math.round((SHADES * Math.abs(w)) / most);
          if (shade) drawn[shade - 1 + (w < 0 ? 0 : SHADES)] += squares[i];
        });
        shades.forEach((path, k) => move(path, { d: drawn[k] }));
      },
    };
  };
  const rows = [row(7, "units of A"), row(118, "between, plain"), row(229, "between, matched")];
  const panel = picture("What hidden units read", 6 * (CELL + GAP), 332, ...rows.flatMap(({ nodes }) => nodes));
  rows[0].show(a);
  const size = (values) => Math.hypot(...values);
  return {
    node: [legend([square(8, "ll-over-zero"), "above 0"], [square(8, "ll-below"), "below 0"]), panel.node],
    show(t) {
      const now = [between(a, b, t), between(a, matched, t)];
      now.forEach((weights, k) => rows[k + 1].show(weights));
      panel.describe(
        now
          .map((weights, k) => `${WAYS[k][0]}: length ${(size(weights) / size(a)).toFixed(2)} of that of A`)
          .join(", "),
      );
    },
  };
}

function render({ model, el }) {
  const data = model.get("_data");
  const { positions, loss, accuracy } = data;
  const choose = stops(model, "position", "from A to B", positions);
  const numbers = readouts(["plain: loss", "accuracy", "matched: loss", "accuracy"]);
  const left = lossPanel(data);
  const right = unitPanel(data);
  lay(el, controls(choose.node), numbers.node, panels(left.node, right.node));
  return redrawOn(model, ["position"], () => {
    const t = model.get("position");
    const i = positions.indexOf(t);
    choose.show(t);
    left.show(
      i,
      numbers.show(
        [loss[0][i].toFixed(2)],
        [percent(accuracy[0][i])],
        [loss[1][i].toFixed(2)],
        [percent(accuracy[1][i])],
      ),
    );
    right.show(t);
  });
}

export default { render };
export { between, excess, unpack };
