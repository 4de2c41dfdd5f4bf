// Text that a language model read, each byte as deep as the exit at which the model was sure of it.
const WIDTH = 300;
const ROW = 28;
const TOP = 34;
const BAR = [118, 248]; // of the histogram, in its own units

const record = ({ confidence, agrees, flops }) => ({ confidence: floatsOf(confidence), agrees: bitsOf(agrees), flops });
// At a threshold: the exit of every byte, how many leave at each, and the means over all bytes.
function leave(threshold, { confidence, agrees, flops }) {
  const layers = flops.length;
  const level = Math.fround(threshold); // float32, as in torch
  const exits = Array.from({ length: Math.floor(confidence.length / layers) }, (_, t) =>
    exitOf(confidence, layers, t, level),
  );
  const mean = (value) => sum(exits.map(value)) / exits.length;
  const right = exits.map((b, t) => agrees[t * layers + b] === 1);
  const left = flops.map(() => 0);
  for (const b of exits) left[b]++;
  return {
    exits,
    right,
    left,
    exit: mean((b) => b),
    flops: mean((b) => flops[b]),
    agreement: mean((_, t) => right[t]),
  };
}
// What a byte looks like: itself if ASCII has a picture of it.
const glyph = (byte) =>
  byte === 10 ? "↵\n" : byte === 9 ? "→   " : byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·";

// A byte is a cell, filled from below: by half if half of the layers ran.
function page(bytes, layers) {
  const cells = Array.from(bytes, (byte) => html("span", {}, glyph(byte)));
  const seen = cells.map(() => "");
  return {
    node: html("pre", { class: "ll-text" }, ...cells),
    show({ exits, right }) {
      cells.forEach((cell, t) => {
        const now = `${exits[t]} ${right[t]}`;
        if (seen[t] === now) return;
        seen[t] = now;
        cell.style.setProperty("--ll-depth", (exits[t] + 1) / layers);
        cell.toggleAttribute("data-differs", !right[t]);
      });
    },
  };
}

const name = (b) => `exit ${b}`;
// A row for each exit: how a byte that leaves there is filled, and how many do.
function histogram(layers, count) {
  const rows = Array.from({ length: layers }, (_, b) => {
    const y = TOP + b * ROW;
    const tall = ROW - 6;
    const high = (tall * (b + 1)) / layers;
    const number = svg("text", { y: y + 18 });
    const fill = svg("rect", { x: 1, y: y + tall - high, width: 14, height: high, class: "ll-depth" });
    fill.style.setProperty("--ll-depth", (b + 1) / layers);
    const rect = svg("rect", { x: BAR[0], y: y + 2, height: tall - 4, class: "ll-bar ll-solid ll-counted" });
    return {
      rect,
      number,
      nodes: [
        fill,
        svg("rect", { x: 1, y, width: 14, height: tall, class: "ll-cell" }),
        svg("text", { x: 26, y: y + 18 }, name(b)),
        rect,
        number,
      ],
    };
  });
  const panel = picture(
    "Where bytes leave",
    WIDTH,
    TOP + layers * ROW,
    svg("text", { x: 0, y: 18 }, "bytes that leave at"),
    ...rows.flatMap(({ nodes }) => nodes),
  );
  return {
    node: panel.node,
    show({ left }, title) {
      left.forEach((some, b) => {
        const width = ((BAR[1] - BAR[0]) * some) / count;
        move(rows[b].rect, { width });
        move(rows[b].number, { x: BAR[0] + width + 8 });
        write(rows[b].number, (some / count).toFixed(2));
      });
      const said = left.map((some, b) => `${name(b)} ${(some / count).toFixed(2)}`);
      panel.describe(`${title}: ${said.join(", ")}`);
    },
  };
}

function render({ model, el }) {
  const data = model.get("_data");
  const recorded = record(data);
  const bytes = bytesOf(data.text);
  const { flops, thresholds } = data;
  const choose = stops(model, "threshold", "confidence threshold", thresholds);
  const numbers = readouts(["mean exit", "FLOPs", "agrees with the full model on"]);
  const text = page(bytes, flops.length);
  const beside = histogram(flops.length, bytes.length);
  lay(
    el,
    controls(choose.node),
    numbers.node,
    html(
      "div",
      { class: "ll-read" },
      text.node,
      html(
        "div",
        {},
        beside.node,
        html("p", { class: "ll-key" }, html("span", { "data-differs": "" }, "wavy"), ": full model differs"),
      ),
    ),
  );
  return redrawOn(model, ["threshold"], () => {
    const threshold = model.get("threshold");
    const now = leave(threshold, recorded);
    choose.show(threshold);
    text.show(now);
    beside.show(now, `confidence threshold ${plain(threshold)}`);
    numbers.show(
      [now.exit.toFixed(2), `of 0 to ${flops.length - 1}`],
      [percent(now.flops / data.full), "of full"],
      [`${(100 * now.agreement).toFixed(1)} %`, "of the bytes"],
    );
  });
}

export default { render };
export { glyph, leave, record };
