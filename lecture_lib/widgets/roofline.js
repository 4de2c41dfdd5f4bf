// A layer of experts under the roof of a machine: measured rates against intensity, and what binds.
const PLOT = { width: 520, height: 384, left: 70, right: 506, top: 40, bottom: 318 };
const triangle = (r, className) => svg("path", { d: `M0 ${-r}L${r} ${0.8 * r}H${-r}Z`, class: className });
const SHAPES = [triangle, square, circle]; // one for each number of tokens
const post = () => svg("rect", { x: -3, y: -15, width: 6, height: 30, class: "ll-bar ll-solid" });

// Seconds to calculate and seconds to move the bytes, at best: the longer of the two binds.
function bound(flops, bytes, machine) {
  const compute = flops / machine[0];
  const memory = bytes / machine[1];
  return { compute, memory, seconds: Math.max(compute, memory), binds: compute >= memory ? "compute" : "memory" };
}
const logScale = (low, high, from, to) => {
  const place = scale(Math.log(low), Math.log(high), from, to);
  return (value) => place(Math.log(value));
};
// Powers of ten from `low` to `high`; where these are fewer than three, two and five times them as well.
function marksFor(low, high) {
  const first = Math.floor(Math.log10(low));
  const powers = Array.from({ length: Math.ceil(Math.log10(high)) - first + 1 }, (_, k) => 10 ** (first + k));
  const inside = (values) => values.filter((value) => low < 1.000001 * value && value < 1.000001 * high);
  return inside(powers).length > 2 ? inside(powers) : inside(powers.flatMap((power) => [power, 2 * power, 5 * power]));
}
const tens = (value) => String(Number(value.toPrecision(1)));
const mark = (k, r, className) => SHAPES[k](r, `${className} ll-option${k}`);

function roofPanel({ counts, tokens, flops, bytes, seconds, machine }) {
  const { width, height, left, right, top, bottom } = PLOT;
  const ridge = machine[0] / machine[1];
  const intensity = bytes.map((row) => row.map((moved, k) => flops[k] / moved));
  const rate = seconds.map((row) => row.map((time, k) => flops[k] / time / 1e9));
  const peak = machine[0] / 1e9;
  const low = 0.7 * Math.min(ridge, ...intensity.flat());
  const high = 1.5 * Math.max(ridge, ...intensity.flat());
  const least = 0.6 * Math.min(...rate.flat());
  const most = 1.5 * Math.max(peak, ...rate.flat());
  const x = logScale(low, high, left, right);
  const y = logScale(least, most, bottom, top);
  const foot = Math.max(low, (ridge * least) / peak); // where the slope leaves the picture
  const roof = points([foot, ridge, high].map(x), [(foot * peak) / ridge, peak, peak].map(y));
  const xs = intensity.map((row) => row.map(x));
  const ys = rate.map((row) => row.map(y));
  const ways = tokens.map((_, k) =>
    svg("polyline", {
      class: `ll-line ll-trail ll-option${k}`,
      points: points(
        xs.map((row) => row[k]),
        ys.map((row) => row[k]),
      ),
    }),
  );
  const small = counts.flatMap((_, i) => tokens.map((_, k) => at(mark(k, 4, "ll-stop"), xs[i][k], ys[i][k])));
  const marks = tokens.map((_, k) => mark(k, 10, "ll-current"));
  const panel = picture(
    "Measured under the roof",
    width,
    height,
    ...axes(PLOT, [x, marksFor(low, high), tens], [y, marksFor(least, most), tens]),
    svg("text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, "FLOPs a byte"),
    svg("path", { class: "ll-reference", d: `M${x(ridge).toFixed(1)} ${top}V${bottom}` }),
    svg("polyline", { points: roof, class: "ll-roof" }),
    ...ways,
    ...small,
    ...marks,
    svg("text", { x: 2, y: top - 16 }, "GFLOPs a second"),
    svg("text", { x: x(ridge) + 8, y: bottom - 10 }, "ridge"),
    svg("text", { x: x(ridge) - 12, y: y(peak) + 2, "text-anchor": "end" }, "roof"),
  );
  return {
    node: panel.node,
    show(i, said) {
      marks.forEach((node, k) => at(node, xs[i][k], ys[i][k]));
      panel.describe(said);
    },
  };
}

// Milliseconds for a thousand tokens: to calculate, to move, and as measured.
function timePanel({ tokens, flops, bytes, seconds, machine }) {
  const { width, left, right } = PLOT;
  const [height, bottom] = [PLOT.height - 30, PLOT.bottom - 30]; // a legend is above it
  const ms = (time, k) => (1e6 * time) / tokens[k];
  const bounds = bytes.map((row) => row.map((moved, k) => bound(flops[k], moved, machine)));
  const all = bounds.flatMap((row, i) =>
    row.flatMap((b, k) => [b.compute, b.memory, seconds[i][k]].map((time) => ms(time, k))),
  );
  const low = 0.6 * Math.min(...all);
  const high = 1.7 * Math.max(...all);
  const x = logScale(low, high, left, right);
  const row = (k) => 56 + (k * (bottom - 46)) / tokens.length;
  const parts = tokens.map((_, k) => ({
    k,
    compute: diamond(11),
    memory: post(),
    line: svg("path", { class: "ll-between" }),
    measured: cross(9),
  }));
  const panel = picture(
    "Time",
    width,
    height,
    ...axes({ ...PLOT, bottom }, [x, marksFor(low, high), tens]),
    svg("text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, "milliseconds for 1,000 tokens"),
    ...tokens.map((n, k) => svg("text", { x: 2, y: row(k) - 14 }, `${n.toLocaleString("en")} tokens`)),
    ...parts.flatMap(({ line, compute, memory, measured }) => [line, memory, compute, measured]),
  );
  return {
    node: [legend([diamond(9), "calculate"], [post(), "move bytes", 5], [cross(8), "measured"]), panel.node],
    show(i) {
      const said = parts.map(({ line, compute, memory, measured, k }) => {
        const { compute: work, memory: transfer } = bounds[i][k];
        const y = row(k) + 12;
        const times = [work, transfer, seconds[i][k]].map((time) => ms(time, k));
        const places = times.map(x);
        [compute, memory, measured].forEach((node, j) => at(node, places[j], y));
        move(line, { d: `M${x(low)} ${y}H${places[2].toFixed(1)}` });
        return `${tokens[k]} tokens: ${times.map(brief).join(", ")}`;
      });
      panel.describe(`milliseconds for 1,000 tokens to calculate, to move, and measured; ${said.join("; ")}`);
    },
  };
}

function render({ model, el }) {
  const data = model.get("_data");
  const { counts, tokens, flops, seconds } = data;
  const choose = stops(model, "count", "experts", counts);
  const numbers = readouts(tokens.map((n) => `${n.toLocaleString("en")} tokens`));
  const left = roofPanel(data);
  const right = timePanel(data);
  [...numbers.node.children].forEach((span, k) => span.prepend(sign(mark(k, 9, "ll-current"))));
  lay(el, controls(choose.node), numbers.node, panels(left.node, right.node));
  return redrawOn(model, ["count"], () => {
    const count = model.get("count");
    const i = counts.indexOf(count);
    choose.show(count);
    const said = numbers.show(...tokens.map((_, k) => [brief(flops[k] / seconds[i][k] / 1e9), "GFLOP/s"]));
    left.show(i, `${plain(count)} experts: ${said}`);
    right.show(i);
  });
}

export default { render };
export { bound, marksFor };
