// One network for images and captions: which expert each patch and each byte went to, and who else goes there.
const WIDTH = 350;
const GRID = 200;
const LEFT = 52;
const TOP = 244;
const BOTTOM = 346;
const HEIGHT = 400; // of each picture, in its own units
const ROW = 9; // bytes in a row of a caption

const isText = (input) => input.text !== undefined;
// Where the tokens of an input are drawn: [x, y, width, height] of each.
function places(input, count) {
  const across = isText(input) ? ROW : Math.sqrt(count);
  const side = isText(input) ? WIDTH / ROW : GRID / across;
  const left = isText(input) ? 0 : (WIDTH - GRID) / 2;
  const tall = isText(input) ? 56 : side;
  return Array.from({ length: count }, (_, t) => [
    left + (t % across) * side,
    26 + Math.floor(t / across) * tall,
    side,
    tall,
  ]);
}
// What the expert of a token tells about its modality, in bits: shares of the experts in images and in text, which
// count alike. 0: both use all experts alike; 1: each has experts of its own.
const entropy = (p) => -sum(p.map((v) => (v > 0 ? v * Math.log2(v) : 0)));
const bits = ([image, text]) =>
  Math.max(0, entropy(image.map((v, e) => (v + text[e]) / 2)) - (entropy(image) + entropy(text)) / 2);
// How many of the experts a row of tokens went to.
const used = (row) => new Set(row).size;
const glyph = (char) => (char === " " ? "␣" : char);

const key = (x, sign, text) =>
  svg("g", { transform: `translate(${x} ${TOP + 101})` }, sign, svg("text", { x: 20, y: 7 }, text));
function inputPanel() {
  const body = svg("g");
  const centred = { "text-anchor": "middle" };
  const panel = picture(
    "The input",
    WIDTH,
    HEIGHT,
    svg("text", { x: WIDTH / 2, y: 18, ...centred }, "the input"),
    body,
    svg("text", { x: 0, y: TOP + 20 }, "below each layer: of all"),
    svg("text", { x: 0, y: TOP + 46 }, "tokens of a modality,"),
    svg("text", { x: 0, y: TOP + 72 }, "the share of each expert"),
    key(14, square(8, "ll-bar ll-solid ll-counted"), "image"),
    key(134, square(8, "ll-bar ll-hollow ll-timed"), "text"),
  );
  return {
    node: panel.node,
    show(input, count, name) {
      const cells = places(input, count);
      if (isText(input)) {
        body.replaceChildren(
          ...Array.from(input.text).flatMap((char, t) => {
            const [x, y, wide, tall] = cells[t];
            return [
              svg("rect", { x, y, width: wide, height: tall, class: "ll-frame" }),
              svg("text", { x: x + wide / 2, y: y + 35, ...centred, class: "ll-label" }, glyph(char)),
            ];
          }),
        );
      } else {
        const ink = bytesOf(input.ink);
        const { side } = input;
        const size = GRID / side;
        const left = (WIDTH - GRID) / 2;
        body.replaceChildren(
          ...Array.from(ink, (value, i) =>
            svg("rect", {
              x: left + (i % side) * size,
              y: 26 + Math.floor(i / side) * size,
              width: size,
              height: size,
              fill: `rgb(${255 - value} ${255 - value} ${255 - value})`,
            }),
          ),
          ...cells.map(([x, y, width, height]) => svg("rect", { x, y, width, height, class: "ll-token" })),
        );
      }
      panel.describe(name);
    },
  };
}

function layerPanel(layer, share, most) {
  const experts = share[0].length;
  const y = scale(0, 1.05 * most, BOTTOM, TOP);
  const centred = { "text-anchor": "middle" };
  const column = (e) => LEFT + ((e + 0.5) * (WIDTH - LEFT)) / experts;
  const wide = (0.36 * (WIDTH - LEFT)) / experts;
  const bars = share.flatMap((row, k) =>
    row.map((value, e) =>
      svg("rect", {
        x: column(e) - (k ? -1 : wide + 1),
        y: y(value),
        width: wide,
        height: BOTTOM - y(value),
        class: `ll-bar ${k ? "ll-hollow ll-timed" : "ll-solid ll-counted"}`,
      }),
    ),
  );
  const axis = ticks(0, 1.05 * most, 3);
  const body = svg("g");
  const title = `layer ${layer}: the expert of each token`;
  const names = Array.from({ length: experts }, (_, e) => svg("text", { x: column(e), y: BOTTOM + 22, ...centred }, e));
  const panel = picture(
    title,
    WIDTH,
    HEIGHT,
    svg("text", { x: WIDTH / 2, y: 18, ...centred }, `experts in layer ${layer}`),
    body,
    ...bars,
    svg("path", { d: `M${LEFT} ${TOP}V${BOTTOM}H${WIDTH}`, class: "ll-axis", fill: "none" }),
    ...axis.values.map((v) =>
      svg("text", { x: LEFT - 8, y: y(v) + 7, "text-anchor": "end" }, v.toFixed(axis.decimals)),
    ),
    ...names,
    svg("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 6, ...centred }, "expert"),
  );
  return {
    node: panel.node,
    show(input, row, name) {
      const cells = places(input, row.length);
      body.replaceChildren(
        ...row.flatMap((e, t) => {
          const [x, top, width, height] = cells[t];
          return [
            svg("rect", { x, y: top, width, height, class: `ll-token ll-expert${e % 8}` }),
            svg("text", { x: x + width / 2, y: top + height / 2 + 8, ...centred, class: "ll-label" }, e),
          ];
        }),
      );
      names.forEach((node, e) => node.setAttribute("class", row.includes(e) ? "ll-label" : ""));
      panel.describe(`${name}: ${row.join(" ")}`);
    },
  };
}

function render({ model, el }) {
  const { inputs, experts, share, layers, titles } = model.get("_data");
  const total = share[0][0].length;
  const choose = stops(
    model,
    "input",
    "input",
    inputs.map((_, i) => i),
  );
  const title = html("p", { class: "ll-note ll-title", role: "status" });
  const numbers = readouts(layers.map((layer) => `layer ${layer}:`));
  const most = Math.max(...share.flat(2)); // one scale for all layers
  const left = inputPanel();
  const right = layers.map((layer, l) => layerPanel(layer, share[l], most));
  const beside = panels(...[left, ...right].map(({ node }) => node));
  beside.classList.add("ll-tokens");
  lay(el, controls(choose.node), title, numbers.node, beside);
  return redrawOn(model, ["input"], () => {
    const i = model.get("input");
    const rows = experts[i];
    const name = titles[i];
    choose.show(i);
    write(title, name);
    left.show(inputs[i], rows[0].length, name);
    right.forEach((panel, l) => panel.show(inputs[i], rows[l], name));
    numbers.show(
      ...rows.map((row, l) => [
        `${used(row)} of ${total}`,
        `experts for ${row.length} tokens; ${bits(share[l]).toFixed(2)} bit about the modality`,
      ]),
    );
  });
}

export default { render };
export { bits, glyph, places, used };
