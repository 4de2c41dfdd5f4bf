// Softmax, 1.5-entmax and sparsemax of the same scores, side by side; the scores under the hand.
const SCORES = [-2, 2];
const SCALE = [0.1, 10]; // of the sliders, and of the traits in Python
const WIDTH = 240;
const HEIGHT = 350;
const GROUND = 308;
const TALL = 212; // each picture and its bars, in its own units
const ALPHAS = [
  ["softmax", 1],
  ["1.5-entmax", 1.5],
  ["sparsemax", 2],
];

// entmax for α = 1.5 and 2: p_k = max((α-1) s_k - τ, 0)^(1/(α-1)), exact by sorting: the support is the largest that
// agrees with its own threshold. Gives the weights p, and the score from which on an option has a weight.
function entmax(scores, alpha) {
  const top = Math.max(...scores);
  const x = scores.map((s) => (alpha - 1) * (s - top));
  let tau = -1;
  let sum = 0;
  let squares = 0;
  [...x]
    .sort((a, b) => b - a)
    .every((value, i) => {
      sum += value;
      squares += value * value;
      const mean = sum / (i + 1);
      const spread = squares / (i + 1) - mean * mean;
      const next = mean - (alpha === 2 ? 1 / (i + 1) : Math.sqrt(Math.max(0, 1 / (i + 1) - spread)));
      if (next < value) tau = next;
      return next < value;
    });
  return { p: x.map((value) => Math.max(value - tau, 0) ** (1 / (alpha - 1))), threshold: top + tau / (alpha - 1) };
}
const maps = (scores, scale) => {
  const scaled = scores.map((s) => scale * s);
  return ALPHAS.map(([, alpha]) =>
    alpha === 1 ? { p: softmax(scaled), threshold: -Infinity } : entmax(scaled, alpha),
  );
};
const supportOf = (p) => p.filter((weight) => weight > 0).length;

const heightOf = (score) => GROUND - (TALL * (score - SCORES[0])) / (SCORES[1] - SCORES[0]);
const scoreAt = (y) => SCORES[0] + (SCORES[1] - SCORES[0]) * Math.min(1, Math.max(0, (GROUND - y) / TALL));
const rounded = (score) => Number(score.toFixed(1)) + 0; // no -0
const column = (k, count) => ((k + 0.5) * WIDTH) / count;
const centred = { "text-anchor": "middle" };

// What the pictures share: a title, a line below it, the axis, the options' names.
function frame(title, labels, ...nodes) {
  const x = WIDTH / 2;
  const below = svg("text", { x, y: 50, ...centred });
  const names = labels.map((label, k) =>
    svg("text", { x: column(k, labels.length), y: GROUND + 32, ...centred, class: "ll-label" }, label),
  );
  const axis = svg("line", { x1: 0, x2: WIDTH, y1: GROUND, y2: GROUND, class: "ll-axis" });
  const head = svg("text", { x, y: 20, ...centred, class: "ll-label" }, title);
  return { below, ...picture(title, WIDTH, HEIGHT, head, below, axis, ...names, ...nodes) };
}
const list = (labels, values) => labels.map((label, k) => `${label} ${values[k].toFixed(2)}`).join(", ");

// The line of a threshold: the score above which 1.5-entmax, or sparsemax, gives a weight.
const threshold = (i, x1, x2) =>
  svg("line", { x1, x2, class: `ll-threshold ll-option${i + 1}`, "stroke-dasharray": ["3 6", "12 6"][i] });
// The scores as handles on stems. What stands out above a threshold has a weight; for sparsemax that is the weight.
function scorePanel(labels, set) {
  const lines = [0, 1].map((i) => threshold(i, 0, WIDTH));
  const stems = labels.map((_, k) => {
    const x = column(k, labels.length);
    return [
      svg("line", { x1: x, x2: x, class: "ll-stem" }),
      svg("rect", { x: x - 8, width: 16, class: "ll-above ll-option2" }),
      svg("circle", { cx: x, r: 9, class: "ll-handle" }),
    ];
  });
  // the whole picture takes the pointer, and moves the handle that is nearest when it is pressed
  const grip = svg("rect", { x: 0, y: 60, width: WIDTH, height: GROUND - 50, class: "ll-grip" });
  let held = -1;
  const at = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(grip.getScreenCTM().inverse());
  const drag = (event) => {
    if (held >= 0) set(held, rounded(scoreAt(at(event).y)));
  };
  const drop = () => {
    held = -1;
  };
  grip.addEventListener("pointerdown", (event) => {
    held = Math.min(labels.length - 1, Math.max(0, Math.floor((at(event).x / WIDTH) * labels.length)));
    grip.setPointerCapture(event.pointerId);
    event.preventDefault();
    drag(event);
  });
  for (const [name, listener] of [
    ["pointermove", drag],
    ["pointerup", drop],
    ["pointercancel", drop],
  ])
    grip.addEventListener(name, listener);
  const panel = frame("scores s", labels, ...stems.flat(), ...lines, grip);
  write(panel.below, "drag the dots");
  return {
    node: panel.node,
    show(scores, thresholds, factor) {
      const places = thresholds.map((score) => heightOf(Math.max(score, SCORES[0])));
      scores.forEach((score, k) => {
        const [stem, above, handle] = stems[k];
        const y = heightOf(score);
        move(stem, { y1: GROUND, y2: y });
        move(above, { y, height: Math.max(0, places[1] - y) });
        move(handle, { cy: y });
      });
      lines.forEach((line, i) => move(line, { y1: places[i], y2: places[i] }));
      panel.describe(`${list(labels, scores)}, times ${factor}`);
    },
  };
}

function mapPanel(option, title, labels) {
  const wide = Math.min(40, WIDTH / labels.length - 8);
  const bars = labels.map((_, k) =>
    bar({
      x: column(k, labels.length) - wide / 2,
      width: wide,
      ground: GROUND,
      height: TALL,
      className: `ll-solid ll-option${option}`,
    }),
  );
  const crosses = labels.map((_, k) => at(cross(7), column(k, labels.length), GROUND - 10));
  const panel = frame(title, labels, ...bars.flatMap((one) => one.nodes), ...crosses);
  return {
    node: panel.node,
    show(p) {
      const support = `support ${supportOf(p)} of ${labels.length}`;
      write(panel.below, support);
      panel.describe(`${support}: ${list(labels, p)}`);
      p.forEach((weight, k) => {
        const [rect, value] = bars[k].nodes;
        const zero = weight === 0;
        bars[k].show(weight);
        rect.style.display = zero ? "none" : "";
        crosses[k].style.display = zero ? "" : "none";
        if (zero) move(value, { y: GROUND - 24 });
        write(value, zero ? "0" : weight < 0.005 ? "<.01" : weight.toFixed(2));
      });
    },
  };
}

function view(model, el) {
  const labels = model.get("labels");
  const change = setter(model);
  const set = (k, score) =>
    change(
      "scores",
      model.get("scores").map((old, i) => (i === k ? score : old)),
    );
  const span = SCORES[1] - SCORES[0];
  const sliders = labels.map((label, k) =>
    slider({
      label,
      steps: 10 * span,
      toValue: (share) => rounded(SCORES[0] + span * share),
      toShare: (score) => (score - SCORES[0]) / span,
      format: (score) => score.toFixed(1),
      onInput: (s) => set(k, s),
    }),
  );
  const scale = slider({
    label: "all scores ×",
    ...logarithmic(...SCALE),
    format: (value) => value.toPrecision(2),
    onInput: (value) => change("scale", value),
  });
  const left = scorePanel(labels, set);
  const right = ALPHAS.map(([title], i) => mapPanel(i, title, labels));
  const beside = panels(...[left, ...right].map(({ node }) => node));
  beside.classList.add("ll-maps");
  lay(
    el,
    html("div", { class: "ll-controls ll-three" }, ...sliders.map((one) => one.node), scale.node),
    legend(...ALPHAS.slice(1).map(([name], i) => [threshold(i, -24, 24), `threshold of ${name}`, 24]), [
      svg("rect", { x: -8, y: -10, width: 16, height: 20, class: "ll-above ll-option2" }),
      "what stands out above it",
    ]),
    beside,
  );

  return redrawOn(model, ["scores", "scale"], () => {
    const scores = model.get("scores");
    const factor = model.get("scale");
    const all = maps(scores, factor);
    scores.forEach((score, k) => sliders[k].show(score));
    scale.show(factor);
    left.show(
      scores,
      all.slice(1).map(({ threshold }) => threshold / factor),
      factor,
    );
    right.forEach((one, i) => one.show(all[i].p));
  });
}

const render = ({ model, el }) => rebuildOn(model, ["labels"], () => view(model, el));

export default { render };
export { entmax, maps, softmax };
