// A network that can do less: accuracy against cost, and what it keeps of each image.
const WIDTH = 520;
const HEIGHT = 354;
const GAP = 14;
const TEXT = 30; // of the images' picture, in its own units
const LEVELS = 16; // shades of ink

// Which patches each image keeps at each setting: keeps(setting, image, patch).
function patches({ kept, count, grid }) {
  const bits = bitsOf(kept);
  const P = grid * grid;
  return (setting, image, patch) => bits[(setting * count + image) * P + patch] === 1;
}

// Images on a grid: the number of columns that makes them largest, and their side.
function layout(count) {
  let best = { side: 0 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const side = Math.min(WIDTH / columns - GAP, HEIGHT / rows - GAP - TEXT);
    if (side > best.side) best = { columns, rows, side };
  }
  return best;
}

function digits(data) {
  const { count, side: pixels, grid } = data;
  const ink = bytesOf(data.images);
  const keeps = patches(data);
  const { columns, rows, side } = layout(count);
  const pixel = side / pixels;
  const patch = side / grid;
  const P = grid * grid;
  const cell = WIDTH / columns;
  const top = (HEIGHT - rows * (side + GAP + TEXT) + GAP) / 2;
  const corners = Array.from({ length: count }, (_, n) => [
    (n % columns) * cell + (cell - side) / 2,
    top + Math.floor(n / columns) * (side + GAP + TEXT),
  ]);
  const shades = Array.from({ length: LEVELS }, () => "");
  ink.forEach((value, i) => {
    const [x, y] = corners[Math.floor(i / pixels ** 2)];
    const row = Math.floor(i / pixels) % pixels;
    const left = (x + (i % pixels) * pixel).toFixed(1);
    const right = (x + ((i % pixels) + 1) * pixel).toFixed(1);
    const up = (y + row * pixel).toFixed(1);
    const down = (y + (row + 1) * pixel).toFixed(1);
    shades[Math.round((value * (LEVELS - 1)) / 255)] += `M${left} ${up}H${right}V${down}H${left}Z`;
  });
  // one dropped patch: its square, and three strokes across it
  const place = (n, p) => [corners[n][0] + (p % grid) * patch, corners[n][1] + Math.floor(p / grid) * patch];
  const each = corners.flatMap((_, n) =>
    Array.from({ length: P }, (_, p) => {
      const [x, y] = place(n, p);
      const at = (dx, dy) => `${(x + dx * patch).toFixed(1)} ${(y + dy * patch).toFixed(1)}`;
      return [
        `M${at(0, 0)}h${patch.toFixed(1)}v${patch.toFixed(1)}h${(-patch).toFixed(1)}Z`,
        `M${at(0, 0.5)}L${at(0.5, 0)}M${at(0, 1)}L${at(1, 0)}M${at(0.5, 1)}L${at(1, 0.5)}`,
      ];
    }),
  );
  const dropped = svg("path", { class: "ll-dropped" });
  const hatch = svg("path", { class: "ll-hatch" });
  const counts = corners.map(([x, y]) => {
    const count = svg("tspan");
    const text = svg("text", { x: x + side / 2, y: y + side + 24, "text-anchor": "middle" }, count);
    text.append(svg("tspan", { class: "ll-odd" }, ` of ${P}`));
    return { count, text };
  });
  const panel = picture(
    "Patches kept",
    WIDTH,
    HEIGHT,
    ...corners.map(([x, y]) => svg("rect", { x, y, width: side, height: side, class: "ll-frame" })),
    ...shades.map((d, k) =>
      svg("path", { d, fill: "currentColor", "fill-opacity": k / (LEVELS - 1), "shape-rendering": "crispEdges" }),
    ),
    dropped,
    hatch,
    ...counts.map(({ text }) => text),
  );
  return {
    node: [legend([svg("path", { class: "ll-hatch", d: "M-9 0L0 -9M-9 9L9 -9M0 9L9 0" }), "left out"]), panel.node],
    show(setting, name) {
      const numbers = corners.map(() => 0);
      let squares = "";
      let strokes = "";
      each.forEach(([square, stroke], i) => {
        const n = Math.floor(i / P);
        if (keeps(setting, n, i % P)) numbers[n]++;
        else {
          squares += square;
          strokes += stroke;
        }
      });
      move(dropped, { d: squares });
      move(hatch, { d: strokes });
      counts.forEach(({ count }, n) => write(count, `${numbers[n]}`));
      panel.describe(`${name}, of ${P} patches an image keeps ${numbers.join(", ")}; the others are hatched`);
    },
  };
}

const render = (view) => {
  const data = view.model.get("_data");
  return tradeoffView(view, data, data.images ? digits(data) : null);
};

export default { render };
export { bitsOf, bytesOf, layout, patches, percent, ticks };
