// What a layer of experts costs, and what its capacity drops if tokens draw their experts at random.
const RANGES = {
  // of the sliders, and of the traits in Python; all but two go by powers of 2
  d_model: [16, 8192],
  d_hidden: [16, 16384],
  n_experts: [8, 256],
  k: [1, 8],
  capacity_factor: [0.5, 4],
  n_tokens: [64, 65536],
};
const WIDTH = 520;
const HEIGHT = 302;
const LEFT = 10;
const RIGHT = 510;
const TOP = 40;
const BOTTOM = 232; // of the picture to the right
const BARS = { height: 124, tall: 30 }; // of the picture to the left

// The published model whose layer has these numbers, if there is one: MODELS comes from Python.
const OWN = "own numbers";
const START = { d_model: 256, d_hidden: 1024, n_experts: 8, k: 1 };
const modelOf = (layer) =>
  Object.keys(MODELS).find((name) => Object.keys(START).every((number) => MODELS[name][number] === layer[number]));

// ---- mathematics: D = d_model, H = d_hidden, E = n_experts, N = n_tokens; a multiply-add is 2 FLOPs
// Binomial(N, p), as far as it is not negligible, by ratios from the mode: the probability of `first` + i is shares[i].
function binomial(N, p) {
  if (p === 1) return { first: N, shares: [1] };
  const mode = Math.min(N, Math.floor((N + 1) * p));
  const up = [1];
  const down = [];
  for (let l = mode, share = 1; l < N && share > 1e-20; l++) {
    share *= (((N - l) / (l + 1)) * p) / (1 - p);
    up.push(share);
  }
  for (let l = mode, share = 1; l > 0 && share > 1e-20; l--) {
    share *= ((l / (N - l + 1)) * (1 - p)) / p;
    down.push(share);
  }
  const shares = [...down.reverse(), ...up];
  const total = sum(shares);
  return { first: mode - down.length, shares: shares.map((share) => share / total) };
}
function costs(layer) {
  const { d_model: D, d_hidden: H, n_experts: E, k, capacity_factor, n_tokens: N } = layer;
  const model = MODELS[modelOf(layer)];
  const router = D * E;
  const expert = (model ? 3 : 2) * D * H;
  const always = router + (model?.shared ?? 0) * expert; // what runs for every token
  const pairs = N * k;
  const slots = Math.ceil(Number(((capacity_factor * pairs) / E).toFixed(6))); // as within_capacity of lecture_lib.moe
  const load = binomial(N, k / E); // of one expert: a token draws it with probability k / E
  const over = sum(load.shares.map((share, i) => share * Math.max(0, load.first + i - slots)));
  const dropped = (E * over) / pairs;
  return {
    total: always + E * expert,
    active: always + k * expert,
    bytes: 4 * (always + E * expert),
    perToken: 2 * (always + k * expert),
    inAll: 2 * (N * always + pairs * (1 - dropped) * expert),
    slots,
    load,
    dropped,
    empty: 1 - (pairs * (1 - dropped)) / (slots * E),
  };
}
// What the layers of a model are of the network, or what a layer is.
function said(name, { total, active }) {
  if (!name) return "An expert is two matrices, D × H and H × D.";
  const { layers, shared, rest, source, ...all } = MODELS[name];
  const billions = (one) => `${((layers * one) / 1e9).toPrecision(3)}`;
  return (
    `${layers} such layers of gated experts${shared ? ", one shared" : ""}: ${billions(total)} of ${all.total} billion ` +
    `weights, ${billions(active)} of ${all.active} for a token; the rest: ${rest}. ${source}`
  );
}
const short = (value) => {
  const [size, unit] = [
    [1e15, "P"],
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ].find(([size]) => value >= 0.9995 * size) ?? [1, ""];
  return `${size === 1 ? value : (value / size).toPrecision(3)} ${unit}`;
};

// ---- pictures
function parameterBars() {
  const rows = ["total parameters", "active for a token"].map((name, i) => {
    const y = i * (BARS.height / 2);
    const value = svg("text", { x: WIDTH, y: y + 23, "text-anchor": "end", class: "ll-label" });
    const rect = svg("rect", {
      x: 2,
      y: y + 31,
      height: BARS.tall - 6,
      class: `ll-bar ll-counted ${i ? "ll-solid" : "ll-hollow"}`,
    });
    return { value, rect, nodes: [svg("text", { x: 0, y: y + 23 }, name), value, rect] };
  });
  const panel = picture("Parameters", WIDTH, BARS.height, ...rows.flatMap(({ nodes }) => nodes));
  return {
    node: panel.node,
    show({ total, active }) {
      [total, active].forEach((number, i) => {
        move(rows[i].rect, { width: ((WIDTH - 4) * number) / total });
        write(rows[i].value, short(number));
      });
      panel.describe(`${short(total)} in all, ${short(active)} active for a token`);
    },
  };
}

function loadPicture() {
  const inside = svg("path", { class: "ll-bar ll-hollow ll-counted" });
  const outside = svg("path", { class: "ll-over" });
  const limit = svg("path", { class: "ll-between" });
  const capacity = svg("text", { y: TOP - 9 });
  const axis = svg("g");
  const panel = picture(
    "Load of one expert",
    WIDTH,
    HEIGHT,
    inside,
    outside,
    limit,
    capacity,
    axis,
    svg("path", { d: `M${LEFT} ${BOTTOM}H${RIGHT}`, class: "ll-axis" }),
    svg("text", { x: WIDTH / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "tokens that one expert gets"),
  );
  return {
    node: [
      html("p", { class: "ll-legend" }, "if each token draws its k experts at random"),
      legend(
        [square(8, "ll-bar ll-hollow ll-counted"), "how likely"],
        [square(9, "ll-over"), "dropped: more than its slots"],
      ),
      panel.node,
    ],
    show({ load: { first, shares }, slots, dropped, empty }) {
      const most = Math.max(...shares);
      const seen = shares.map((share, i) => [first + i, share]).filter(([, share]) => share > 1e-4 * most);
      const low = Math.min(seen[0][0], slots) - 1;
      const high = Math.max(seen.at(-1)[0], slots) + 1;
      const room = 0.03 * (high - low);
      const x = scale(low - room, high + room, LEFT, RIGHT);
      const y = scale(0, most, BOTTOM, TOP);
      // counts as steps one wide; those above the slots once more, filled
      const steps = (from) => {
        const some = seen.filter(([count]) => count >= from);
        if (!some.length) return "";
        const tops = some.map(([count, share]) => `V${y(share).toFixed(1)}H${x(count + 0.5).toFixed(1)}`);
        return `M${x(some[0][0] - 0.5).toFixed(1)} ${BOTTOM}${tops.join("")}V${BOTTOM}Z`;
      };
      move(inside, { d: steps(-1) });
      move(outside, { d: steps(slots + 1) });
      const edge = x(slots + 0.5);
      const left = edge > WIDTH / 2;
      move(limit, { d: `M${edge.toFixed(1)} ${TOP - 24}V${BOTTOM}` });
      move(capacity, { x: edge + (left ? -8 : 8), "text-anchor": left ? "end" : "start" });
      write(capacity, `${slots} slots`);
      const { values } = ticks(low - room, high + room, 4);
      axis.replaceChildren(
        ...values
          .filter((count) => Number.isInteger(count) && count >= 0)
          .map((count) => svg("text", { x: x(count), y: BOTTOM + 26, "text-anchor": "middle" }, count)),
      );
      panel.describe(
        `${slots} slots an expert, ${percent(dropped)} of the choices dropped, ${percent(empty)} of the slots empty`,
      );
    },
  };
}

function table(names) {
  const cells = names.map(() => html("td"));
  return {
    node: html(
      "table",
      { class: "ll-table" },
      html("tbody", {}, ...names.map((name, i) => html("tr", {}, html("th", { scope: "row" }, name), cells[i]))),
    ),
    show(texts) {
      texts.forEach((text, i) => write(cells[i], text));
    },
  };
}

const powers = ([low, high]) => {
  const steps = Math.log2(high / low);
  return {
    steps,
    toValue: (share) => low * 2 ** Math.round(share * steps),
    toShare: (value) => Math.log2(value / low) / steps,
  };
};
const equal = ([low, high], steps) => ({
  steps,
  toValue: (share) => Number((low + share * (high - low)).toFixed(2)),
  toShare: (value) => (value - low) / (high - low),
});

function render({ model, el }) {
  const change = setter(model);
  const control = (name, label, track) => [
    name,
    slider({ label, ...track, format: String, onInput: (value) => change(name, value) }),
  ];
  const sliders = [
    control("n_experts", "experts E", powers(RANGES.n_experts)),
    control("k", "chosen k", equal(RANGES.k, 7)),
    control("capacity_factor", "capacity", equal(RANGES.capacity_factor, 70)),
    control("d_model", "width D", powers(RANGES.d_model)),
    control("d_hidden", "hidden H", powers(RANGES.d_hidden)),
    control("n_tokens", "tokens N", powers(RANGES.n_tokens)),
  ];
  const menu = choices("a model", [OWN, ...Object.keys(MODELS)], (name) => {
    const numbers = MODELS[name] ?? START;
    for (const number in START) model.set(number, numbers[number]);
    model.save_changes();
  });
  const note = html("span", { class: "ll-muted", role: "status" });
  const left = parameterBars();
  const right = loadPicture();
  const numbers = table([
    "weights, as float32",
    "FLOPs for a token",
    "FLOPs for all, less the dropped",
    "slots per expert",
    "empty slots",
    "dropped choices",
  ]);
  lay(
    el,
    html("div", { class: "ll-controls ll-three" }, ...sliders.map(([, one]) => one.node)),
    html("div", { class: "ll-controls ll-menu" }, menu.node, note),
    panels([left.node, numbers.node], right.node),
  );
  return redrawOn(model, Object.keys(RANGES), () => {
    const layer = Object.fromEntries(Object.keys(RANGES).map((name) => [name, model.get(name)]));
    const found = costs(layer);
    for (const [name, one] of sliders) one.show(layer[name]);
    const name = modelOf(layer);
    menu.show(name ?? OWN);
    write(note, said(name, found));
    left.show(found);
    right.show(found);
    numbers.show([
      `${short(found.bytes)}B`,
      short(found.perToken),
      short(found.inAll),
      String(found.slots),
      percent(found.empty),
      percent(found.dropped),
    ]);
  });
}

export default { render };
export { binomial, costs, said, short };
