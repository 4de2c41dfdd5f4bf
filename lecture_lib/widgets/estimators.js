// One gradient, two ways to estimate it: by score function, and by relaxation. Each is a cloud around the exact one.
const BASELINES = [-1, 2];
const MOST = 64; // baseline and samples per estimate, as in Python
const DOTS = 300;
const LAYERS = 6;
const WIDTH = 520;
const HEIGHT = 330;
const UNIT = 165; // of each picture; a gradient of length 1 is UNIT long

// ---- mathematics: three options, scores s, cost(z) = (z · worth - target)²
const costs = ({ worth, target }) => worth.map((w) => (w - target) ** 2);

function exactGradient(s, toy) {
  // of Σ_k π_k cost(k), with the probabilities π
  const p = softmax(s);
  const c = costs(toy);
  const mean = sum(p.map((pk, k) => pk * c[k]));
  return p.map((pk, k) => pk * (c[k] - mean));
}
function scoreFunctionGradient(s, toy, k, baseline) {
  // (cost - baseline) ∇ log π_k, for option k drawn
  const p = softmax(s);
  const advantage = costs(toy)[k] - baseline;
  return p.map((pi, i) => advantage * ((i === k) - pi));
}
// Through z = softmax((s + G) / λ), one sample a row of the noise G; straight-through: the cost's slope at one-hot z.
function relaxedGradients(s, { worth, target }, noise, temperature, hard, out = new Float64Array(noise.length)) {
  const [w0, w1, w2] = worth;
  for (let i = 0; i < noise.length; i += 3) {
    const a = s[0] + noise[i];
    const b = s[1] + noise[i + 1];
    const c = s[2] + noise[i + 2];
    const top = Math.max(a, b, c);
    let z0 = Math.exp((a - top) / temperature);
    let z1 = Math.exp((b - top) / temperature);
    let z2 = Math.exp((c - top) / temperature);
    const total = z0 + z1 + z2;
    z0 /= total;
    z1 /= total;
    z2 /= total;
    const y = z0 * w0 + z1 * w1 + z2 * w2;
    const at = hard ? (top === a ? w0 : top === b ? w1 : w2) : y;
    const slope = (2 * (at - target)) / temperature;
    out[i] = slope * z0 * (w0 - y);
    out[i + 1] = slope * z1 * (w1 - y);
    out[i + 2] = slope * z2 * (w2 - y);
  }
  return out;
}
// Mean and covariance of rows of three, each with its weight, or all alike.
function moments(rows, weights) {
  const n = rows.length / 3;
  const mean = [0, 0, 0];
  const square = [0, 0, 0];
  let product = 0;
  for (let i = 0; i < n; i++) {
    const weight = weights ? weights[i] : 1 / n;
    for (let k = 0; k < 3; k++) {
      mean[k] += weight * rows[3 * i + k];
      square[k] += weight * rows[3 * i + k] ** 2;
    }
    product += weight * rows[3 * i] * rows[3 * i + 2];
  }
  return {
    mean,
    variance: square.map((q, k) => Math.max(0, q - mean[k] ** 2)),
    covariance: product - mean[0] * mean[2],
  };
}
// Of one estimate from `samples` samples: how far its mean is from the exact gradient, and how far it strays from that.
function quality({ mean, variance }, exact, samples) {
  const bias = Math.hypot(...mean.map((m, k) => m - exact[k]));
  const spread = Math.sqrt(sum(variance) / samples);
  return { bias, spread, error: Math.hypot(bias, spread) };
}
function noiseOf(seed, draws = DOTS * MOST) {
  const uniform = uniforms(seed);
  return Float64Array.from({ length: 3 * draws }, () => gumbel(uniform));
}

// ---- pictures
const place = (a, c) => [WIDTH / 2 + UNIT * a, HEIGHT / 2 - UNIT * c];
const disc = (() => {
  // where dots coincide they are spread a little
  const uniform = uniforms(1);
  return Array.from({ length: DOTS }, () => {
    const angle = 2 * Math.PI * uniform();
    const radius = 13 * Math.sqrt(uniform());
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
})();

function cloud(name, labels, option) {
  const dots = Array.from({ length: LAYERS }, () => svg("path", { class: `ll-dots ll-option${option}` }));
  const ellipse = svg("ellipse", { class: "ll-ellipse" });
  const inside = svg("svg", { width: WIDTH, height: HEIGHT }, ellipse);
  const mean = diamond(10);
  const exact = cross(14);
  const outside = svg("text", { x: WIDTH - 6, y: 56, "text-anchor": "end" });
  const title = svg("text", { x: WIDTH - 6, y: 26, "text-anchor": "end", class: "ll-label" }, name);
  const [x, y] = place(0, 0);
  const axes = svg("path", {
    d: `M0 ${y}H${WIDTH}M${x} 0V${HEIGHT}M${x + UNIT} ${y - 5}v10M${x} ${y - UNIT}m-5 0h10`,
    class: "ll-axis ll-faint",
  });
  const panel = picture(
    name,
    WIDTH,
    HEIGHT,
    axes,
    ...dots,
    inside,
    mean,
    exact,
    title,
    outside,
    svg("text", { x: WIDTH - 6, y: y - 10, "text-anchor": "end" }, `slope for ${labels[0]}`),
    svg("text", { x: x + 10, y: HEIGHT - 9 }, `slope for ${labels[2]}`),
    svg("text", { x: x + UNIT, y: y + 26, "text-anchor": "middle" }, "1"),
    svg("text", { x: x - 12, y: y - UNIT + 22, "text-anchor": "end", class: "ll-odd" }, "1"),
  );
  const dot = svg("path", { d: "M0 0h0", class: `ll-dots ll-option${option}` });
  return {
    node: [legend([cross(9), "exact"], [diamond(9), "mean"], [dot, `${DOTS} estimates`, 8]), panel.node],
    call(way) {
      write(title, way);
    },
    show(rows, { mean: m, variance, covariance }, truth, samples, apart) {
      const paths = dots.map(() => "");
      let out = 0;
      for (let i = 0; i < DOTS; i++) {
        let a = 0;
        let c = 0;
        for (let j = 3 * i * MOST, end = j + 3 * samples; j < end; j += 3) {
          a += rows[j];
          c += rows[j + 2];
        }
        const [px, py] = place(a / samples, c / samples);
        if (px < 0 || px > WIDTH || py < 0 || py > HEIGHT) out++;
        else {
          const [dx, dy] = apart ? disc[i] : [0, 0];
          paths[i % LAYERS] += `M${(px + dx / samples).toFixed(1)} ${(py + dy / samples).toFixed(1)}h0`;
        }
      }
      dots.forEach((path, i) => move(path, { d: paths[i] }));
      const [va, vc] = [variance[0], variance[2]];
      const half = Math.hypot((va - vc) / 2, covariance);
      const angle = (-Math.atan2(2 * covariance, va - vc) * 90) / Math.PI;
      const centre = place(m[0], m[2]);
      const radius = (v) => UNIT * Math.sqrt(Math.max(0, v) / samples);
      move(ellipse, {
        rx: radius((va + vc) / 2 + half),
        ry: radius((va + vc) / 2 - half),
        transform: `translate(${centre}) rotate(${angle})`,
      });
      move(mean, { transform: `translate(${centre})` });
      move(exact, { transform: `translate(${place(truth[0], truth[2])})` });
      write(outside, out ? `${out} outside` : "");
    },
    describe: panel.describe,
  };
}

function numbers() {
  const cells = ["bias", "spread", "error"].map((name) => ({ name, value: html("strong") }));
  return {
    node: html("p", { class: "ll-numbers" }, ...cells.map(({ name, value }) => html("span", {}, `${name} `, value))),
    show(q) {
      [q.bias, q.spread, q.error].forEach((number, i) => write(cells[i].value, number.toFixed(2)));
      return cells.map(({ name, value }) => `${name} ${value.textContent}`).join(", ");
    },
  };
}

function view(model, el) {
  const labels = model.get("labels");
  const change = setter(model);
  const samples = slider({
    label: "samples S",
    steps: Math.log2(MOST),
    format: String,
    toValue: (share) => Math.round(MOST ** share),
    toShare: (value) => Math.log(value) / Math.log(MOST),
    onInput: (value) => change("samples", value),
  });
  const [low, high] = BASELINES;
  const baseline = slider({
    label: "baseline",
    steps: 60,
    format: (value) => value.toFixed(2),
    toValue: (share) => Number((low + (high - low) * share).toFixed(2)),
    toShare: (value) => (value - low) / (high - low),
    onInput: (value) => change("baseline", value),
  });
  const temperature = temperatureSlider(change);
  const again = noiseButton(model, change);
  const ways = { gumbel_softmax: "Gumbel-Softmax", straight_through: "straight-through" };
  const relaxation = radios("relaxation", Object.entries(ways), (value) => change("relaxation", value));
  const sides = ["Score function", "Relaxation"].map((name, option) => ({
    cloud: cloud(name, labels, option),
    numbers: numbers(),
  }));
  const panel = ({ cloud, numbers }, control) => [controls(control.node), cloud.node, numbers.node];
  const rows = [
    controls(samples.node, relaxation.node, again),
    panels(panel(sides[0], baseline), panel(sides[1], temperature)),
  ];
  for (const row of rows) row.classList.add("ll-two");
  lay(el, ...rows);

  const changed = () => {
    // since the last call; each use has its own memory
    let last = [];
    return (...now) => {
      const is = now.some((value, i) => value !== last[i]);
      last = now;
      return is;
    };
  };
  const newNoise = changed();
  const newLeft = changed();
  const newRight = changed();
  const newRelaxed = changed();
  const scored = new Float64Array(3 * DOTS * MOST);
  const relaxed = new Float64Array(3 * DOTS * MOST);
  let noise;
  let spreadOut;
  return redrawOn(
    model,
    ["logits", "worth", "target", "temperature", "baseline", "samples", "relaxation", "seed"],
    () => {
      const [s, b, t, n, way, seed] = ["logits", "baseline", "temperature", "samples", "relaxation", "seed"].map(
        (name) => model.get(name),
      );
      const toy = { worth: model.get("worth"), target: model.get("target") };
      const exact = exactGradient(s, toy);
      const show = (side, rows, m) => {
        side.cloud.show(rows, m, exact, n, rows === scored);
        side.cloud.describe(side.numbers.show(quality(m, exact, n)));
      };
      const same = `${s} ${toy.worth} ${toy.target} ${seed}`; // what both sides depend on
      if (newNoise(seed)) noise = noiseOf(seed);
      sides[1].cloud.call(ways[way]);
      samples.show(n);
      baseline.show(b);
      temperature.show(t);
      relaxation.show(way);
      if (newLeft(same, n, b)) {
        const each = s.map((_, k) => scoreFunctionGradient(s, toy, k, b));
        for (let i = 0; i < noise.length; i += 3) {
          const x = s[0] + noise[i];
          const y = s[1] + noise[i + 1];
          const z = s[2] + noise[i + 2];
          scored.set(each[x >= y && x >= z ? 0 : y >= z ? 1 : 2], i);
        }
        show(sides[0], scored, moments(each.flat(), softmax(s))); // exact moments: the sum over three options
      }
      if (newRelaxed(same, t, way)) {
        relaxedGradients(s, toy, noise, t, way === "straight_through", relaxed);
        spreadOut = moments(relaxed);
      }
      if (newRight(same, n, t, way)) show(sides[1], relaxed, spreadOut);
    },
  );
}

const render = ({ model, el }) => rebuildOn(model, ["labels"], () => view(model, el));

export default { render };
export { costs, exactGradient, moments, noiseOf, quality, relaxedGradients, scoreFunctionGradient };
