// Early exits: an example leaves at the first exit whose confidence reaches the threshold, and at the last in any case.
const WIDTH = 520;
const HEIGHT = 324;
const GROUND = 258;
const TALL = 200; // of the histogram, in its own units

// From N examples at B exits: which leave where, how many of those are right, accuracy and mean FLOPs.
function leave(threshold, { confidence, right, flops }) {
  const exits = flops.length;
  const level = Math.fround(threshold); // float32, as in torch
  const examples = Math.floor(confidence.length / exits);
  const left = flops.map(() => 0);
  const hits = flops.map(() => 0);
  for (let n = 0; n < examples; n++) {
    const b = exitOf(confidence, exits, n, level);
    left[b]++;
    hits[b] += right[n * exits + b];
  }
  const work = sum(left.map((count, b) => count * flops[b]));
  return { left, hits, examples, accuracy: sum(hits) / examples, flops: work / examples };
}
const record = ({ confidence, right, flops }) => ({ confidence: floatsOf(confidence), right: bitsOf(right), flops });

function histogram(all) {
  const exits = all[0].left.length;
  const wide = Math.min(64, WIDTH / exits - 14);
  const column = (b) => ((b + 0.5) * WIDTH) / exits;
  const bars = all[0].left.map((_, b) =>
    bar({ x: column(b) - wide / 2, width: wide, ground: GROUND, height: TALL, className: "ll-hollow ll-counted" }),
  );
  const solid = all[0].left.map((_, b) =>
    svg("rect", { x: column(b) - wide / 2, width: wide, class: "ll-bar ll-solid ll-counted" }),
  );
  const names = solid.map((_, b) =>
    svg("text", { x: column(b), y: GROUND + 28, "text-anchor": "middle", class: "ll-label" }, b),
  );
  const panel = picture(
    "Where examples leave",
    WIDTH,
    HEIGHT,
    ...bars.flatMap((one) => one.nodes),
    ...solid,
    ...names,
    svg("path", { d: `M0 ${GROUND}H${WIDTH}`, class: "ll-axis" }),
    svg("text", { x: WIDTH / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "exit"),
  );
  return {
    node: [
      legend(
        [square(8, "ll-bar ll-hollow ll-counted"), "share that leaves here"],
        [square(8, "ll-bar ll-solid ll-counted"), "and is right"],
      ),
      panel.node,
    ],
    show(i, name) {
      const { left, hits, examples } = all[i];
      left.forEach((count, b) => {
        const height = (TALL * hits[b]) / examples;
        bars[b].show(count / examples);
        move(solid[b], { y: GROUND - height, height });
      });
      const share = (count) => (count / examples).toFixed(2);
      const said = left.map((count, b) => `exit ${b} ${share(count)}, right ${share(hits[b])}`);
      panel.describe(`${name}: ${said.join("; ")}`);
    },
  };
}

const render = (view) => {
  const data = view.model.get("_data");
  const recorded = record(data);
  const all = data.settings.map((threshold) => leave(threshold, recorded));
  const [accuracy, flops] = ["accuracy", "flops"].map((name) => all.map((one) => one[name]));
  return tradeoffView(view, { ...data, accuracy, flops }, histogram(all));
};

export default { render };
export { bitsOf, floatsOf, leave, record };
