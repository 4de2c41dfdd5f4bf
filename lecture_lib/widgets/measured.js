// What the widgets of measured data share: how Python packs arrays, axes, signs, a slider over settings, numbers in a row.

// ---- arrays, packed by Python into base64: bytes, bits (numpy.packbits), float32
const bytesOf = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const floatsOf = (text) => new Float32Array(bytesOf(text).buffer);
function bitsOf(text) {
  const bytes = bytesOf(text);
  return Uint8Array.from({ length: 8 * bytes.length }, (_, i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1);
}

// The first exit of row n whose confidence is at least the level, else the last.
function exitOf(confidence, exits, n, level) {
  let b = 0;
  while (b < exits - 1 && !(confidence[n * exits + b] >= level)) b++;
  return b;
}

// ---- axes
// Round numbers from `low` to `high`, about `count` of them, and the decimals that they need.
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size > 0.8 * rough);
  const first = Math.ceil(low / step - 1e-6), last = Math.floor(high / step + 1e-6);
  const values = Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  return { values, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-6)) };
}
const scale = (low, high, from, to) => (value) => from + (to - from) * (value - low) / (high - low);
const points = (xs, ys) => xs.map((x, i) => `${x.toFixed(1)},${ys[i].toFixed(1)}`).join(" ");
const percent = (share) => // with a decimal where it is small
  (share > 0 && share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`);
const brief = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
const plain = (value) => String(Number(value.toPrecision(4)));

// ---- signs around (0, 0), and one moved to its place
const circle = (r, className) => svg("circle", { r, class: className });
const square = (r, className) => svg("rect", { x: -r, y: -r, width: 2 * r, height: 2 * r, class: className });
const diamond = () => svg("path", { d: "M0 -11 L11 0 L0 11 L-11 0 Z", class: "ll-mark" });
const at = (node, x, y) => { move(node, { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` }); return node; };

// ---- what stands around a picture
// A slider over measured settings only.
const stops = (label, settings, onInput) => slider({
  label, steps: settings.length - 1, format: plain, onInput,
  toValue: (share) => settings[Math.round(share * (settings.length - 1))],
  toShare: (value) => settings.indexOf(value) / (settings.length - 1),
});

// Names with their numbers in a row; `show` writes the numbers and what follows each.
function readouts(names) {
  const parts = names.map((name) => ({ name, value: html("strong"), rest: html("span", { class: "ll-muted" }) }));
  return {
    node: html("p", { class: "ll-numbers", role: "status" },
      ...parts.map(({ name, value, rest }) => html("span", {}, `${name} `, value, " ", rest))),
    show(...texts) {
      texts.forEach(([value, rest = ""], i) => { write(parts[i].value, value); write(parts[i].rest, rest); });
      return texts.map(([value, rest = ""], i) => `${names[i]} ${value} ${rest}`.trim()).join(", ");
    },
  };
}
