// Gumbel-Softmax: z = softmax((s + G) / λ) for one noise G, and for many; the temperature λ under the hand.
const SAMPLES = 400;
const LAYERS = 8;
const GROUND = 262;
const CORNERS = [
  [260, 34],
  [128.4, GROUND],
  [391.6, GROUND],
]; // an equilateral triangle, of the first, second and third option
const WIDTH = 520;
const HEIGHT = 300; // of each picture, in its own units

const gumbelNoise = (seed, n = SAMPLES) => {
  const uniform = uniforms(seed);
  return Array.from({ length: n }, () => [gumbel(uniform), gumbel(uniform), gumbel(uniform)]);
};
const gumbelSoftmax = (logits, noise, temperature) =>
  softmax(
    logits.map((s, k) => s + noise[k]),
    temperature,
  );

// A point of the 2-simplex in the plane, as weights of the three corners.
const inTriangle = (z, corners) => [0, 1].map((axis) => sum(z.map((weight, k) => weight * corners[k][axis])));

// Over samples z: how often each option is the largest entry, and the mean of the largest entry.
function summary(samples) {
  const share = [0, 0, 0];
  let largest = 0;
  for (const z of samples) {
    share[argmax(z)] += 1 / samples.length;
    largest += Math.max(...z) / samples.length;
  }
  return { share, largest };
}

function barPanel(labels) {
  const parts = [];
  const pairs = labels.map((label, k) => {
    const x = 26 + 168 * k;
    const pair = ["hollow", "solid"].map((fill, i) =>
      bar({ x: x + 72 * i, width: 60, ground: GROUND, height: 204, className: `ll-${fill} ll-option${k}` }),
    );
    const name = svg("text", { x: x + 66, y: GROUND + 30, "text-anchor": "middle", class: "ll-label" }, label);
    parts.push(...pair.flatMap((one) => one.nodes), name);
    return pair;
  });
  const line = svg("line", { x1: 24, x2: WIDTH - 24, y1: GROUND, y2: GROUND, class: "ll-axis" });
  const panel = picture("Bars", WIDTH, HEIGHT, ...parts, line);
  return {
    node: [
      legend([square(8, "ll-bar ll-hollow"), "softmax(s)"], [square(8, "ll-bar ll-solid"), "one sample z"]),
      panel.node,
    ],
    show(pi, z) {
      pairs.forEach(([hollow, solid], k) => {
        hollow.show(pi[k]);
        solid.show(z[k]);
      });
      const list = (values) => labels.map((label, k) => `${label} ${values[k].toFixed(2)}`).join(", ");
      panel.describe(`softmax(s) is ${list(pi)}; the sample z is ${list(z)}`);
    },
  };
}

function trianglePanel(labels) {
  // Few paths of many dots redraw four times as fast as a circle for each dot. Dots that overlap look darker only if
  // they are of different paths: hence several for each option.
  const layers = Array.from({ length: LAYERS });
  const dots = labels.flatMap((_, k) => layers.map(() => svg("path", { class: `ll-dots ll-option${k}` })));
  const mark = diamond(12);
  const current = svg("circle", { r: 9 });
  const names = labels.map((label, k) => {
    const [x, y] = CORNERS[k];
    return svg("text", { x, y: k ? y + 30 : y - 11, "text-anchor": "middle", class: "ll-label" }, label);
  });
  const edge = svg("polygon", { points: CORNERS.join(" "), class: "ll-simplex" });
  const panel = picture("Triangle", WIDTH, HEIGHT, edge, ...dots, mark, current, ...names);
  const dot = svg("path", { d: "M0 0h0", class: "ll-dots" });
  return {
    node: [
      legend([diamond(9), "softmax(s)"], [circle(8, "ll-current"), "one sample z"], [dot, `${SAMPLES} samples`, 8]),
      panel.node,
    ],
    show(pi, samples, largest) {
      const paths = dots.map(() => "");
      samples.forEach((z, i) => {
        const point = inTriangle(z, CORNERS).map((coordinate) => coordinate.toFixed(1));
        paths[argmax(z) * LAYERS + (i % LAYERS)] += `M${point}h0`; // no line, but two round ends: a dot
      });
      dots.forEach((path, i) => move(path, { d: paths[i] }));
      const [cx, cy] = inTriangle(samples[0], CORNERS);
      move(current, { cx, cy, class: `ll-current ll-option${argmax(samples[0])}` });
      move(mark, { transform: `translate(${inTriangle(pi, CORNERS)})` });
      const place =
        largest > 0.9 ? "near the corners" : largest < 0.45 ? "near the centre" : "between centre and corners";
      panel.describe(`${SAMPLES} samples, ${place}`);
    },
  };
}

// Numbers that do not move with the temperature: how often an option wins is its probability (the Gumbel-max trick).
function table(labels) {
  const rows = ["softmax(s)", "how often largest in z"].map((name) => {
    const cells = labels.map(() => html("td"));
    return { cells, node: html("tr", {}, html("th", { scope: "row" }, name), ...cells) };
  });
  const head = html("tr", {}, html("td"), ...labels.map((label) => html("th", { scope: "col" }, label)));
  return {
    node: html(
      "table",
      { class: "ll-table" },
      html("thead", {}, head),
      html("tbody", {}, ...rows.map((row) => row.node)),
    ),
    show(...values) {
      rows.forEach((row, r) => row.cells.forEach((cell, k) => write(cell, values[r][k].toFixed(2))));
    },
  };
}

function view(model, el) {
  const labels = model.get("labels");
  const change = setter(model);
  const temperature = temperatureSlider(change);
  const again = noiseButton(model, change);
  const left = barPanel(labels);
  const right = trianglePanel(labels);
  const numbers = table(labels);
  const mean = html("strong");
  const note = html(
    "p",
    { class: "ll-note", role: "status" },
    mean,
    " is the mean largest entry of z",
    html("br"),
    html("span", { class: "ll-muted" }, "1 would be one-hot, 1/3 uniform"),
  );
  lay(el, controls(temperature.node, again), panels([left.node, numbers.node], [right.node, note]));

  let seed;
  let noise;
  return redrawOn(model, ["logits", "temperature", "seed"], () => {
    if (seed !== model.get("seed")) {
      seed = model.get("seed");
      noise = gumbelNoise(seed);
    }
    const logits = model.get("logits");
    const lambda = model.get("temperature");
    const pi = softmax(logits);
    const samples = noise.map((G) => gumbelSoftmax(logits, G, lambda));
    const over = summary(samples);
    temperature.show(lambda);
    left.show(pi, samples[0]);
    right.show(pi, samples, over.largest);
    numbers.show(pi, over.share);
    write(mean, over.largest.toFixed(2));
  });
}

const render = ({ model, el }) => rebuildOn(model, ["labels"], () => view(model, el));

export default { render };
export { gumbelNoise, gumbelSoftmax, inTriangle, softmax, summary, uniforms };
