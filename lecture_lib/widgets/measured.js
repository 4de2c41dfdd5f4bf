// What the widgets of measured data share: how Python packs arrays, axes, a slider over settings, numbers in a row.

// ---- arrays, packed by Python into base64: bytes, bits (numpy.packbits), float32
const bytesOf = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const floatsOf = (text) => new Float32Array(bytesOf(text).buffer);
function bitsOf(text) {
  const bytes = bytesOf(text);
  return Uint8Array.from({ length: 8 * bytes.length }, (_, i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1);
}

const rowsOf = (flat, size) =>
  Array.from({ length: flat.length / size }, (_, i) => Array.from(flat.subarray(i * size, (i + 1) * size)));

// The first exit of row n whose confidence is at least the level, else the last.
function exitOf(confidence, exits, n, level) {
  let b = 0;
  while (b < exits - 1 && !(confidence[n * exits + b] >= level)) b++;
  return b;
}

// ---- axes
// Round numbers from `low` to `high`, about `count` of them, and the decimals that they need.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size > 0.8 * rough);
  const first = Math.ceil(low / step - 1e-6);
  const last = Math.floor(high / step + 1e-6);
  const values = Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  return { values, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-6)) };
}
const fixed = (decimals) => (value) => value.toFixed(decimals);
const scale = (low, high, from, to) => (value) => from + ((to - from) * (value - low)) / (high - low);
const points = (xs, ys) => xs.map((x, i) => `${x.toFixed(1)},${ys[i].toFixed(1)}`).join(" ");
const percent = (
  share, // with a decimal where it is small
) => (share > 0 && share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`);
const brief = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
const plain = (value) => String(Number(value.toPrecision(4)));
// The axes of a plot, the one to the left if it has one. Each is a scale, the values that it shows, and how.
function axes({ left, right, top, bottom }, [x, across, writeX], [y, up, writeY] = [null, []]) {
  const path =
    `M${left} ${y ? `${top}V${bottom}` : bottom}H${right}` +
    across.map((value) => `M${x(value).toFixed(1)} ${bottom}v5`).join("") +
    up.map((value) => `M${left} ${y(value).toFixed(1)}h-5`).join("");
  return [
    svg("path", { class: "ll-axis", fill: "none", d: path }),
    ...across.map((value, i) =>
      svg(
        "text",
        { x: x(value), y: bottom + 26, "text-anchor": "middle", class: `ll-across ${i % 2 ? "ll-odd" : ""}` },
        writeX(value),
      ),
    ),
    ...up.map((value) => svg("text", { x: left - 10, y: y(value) + 7, "text-anchor": "end" }, writeY(value))),
  ];
}
// Of a legend: a line, and a line with its marks.
const lineEntry = (className, text) => [svg("path", { d: "M-16 0H16", class: className }), text, 18];
const curveEntry = (shape, className, text) => {
  const [line, ...rest] = lineEntry(`ll-line ${className}`, text);
  return [svg("g", {}, line, shape(8, `ll-current ${className}`)), ...rest];
};

// ---- what stands around a picture
// A slider over measured settings only, which sets the trait of that name.
const stops = (model, name, label, settings) =>
  slider({
    label,
    steps: settings.length - 1,
    format: plain,
    onInput: (value) => setter(model)(name, value),
    toValue: (share) => settings[Math.round(share * (settings.length - 1))],
    toShare: (value) => settings.indexOf(value) / (settings.length - 1),
  });

// Names with their numbers in a row; `show` writes the numbers and what follows each.
function readouts(names) {
  const parts = names.map((name) => ({ name, value: html("strong"), rest: html("span", { class: "ll-muted" }) }));
  return {
    node: html(
      "p",
      { class: "ll-numbers", role: "status" },
      ...parts.map(({ name, value, rest }) => html("span", {}, `${name} `, value, " ", rest)),
    ),
    show(...texts) {
      texts.forEach(([value, rest = ""], i) => {
        write(parts[i].value, value);
        write(parts[i].rest, rest);
      });
      return texts.map(([value, rest = ""], i) => `${names[i]} ${value} ${rest}`.trim()).join(", ");
    },
  };
}
