// What the widgets of Gumbel-Softmax share: its noise, and the controls of noise and temperature.
// Numbers in the open interval (0, 1) from a 32-bit seed: the generator mulberry32.
function uniforms(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
}
const gumbel = (uniform) => -Math.log(-Math.log(uniform()));

const temperatureSlider = (change) =>
  slider({
    label: "temperature λ",
    ...logarithmic(0.05, 10), // as in Python
    format: (value) => value.toPrecision(value < 0.1 ? 1 : 2),
    onInput: (value) => change("temperature", value),
  });
const noiseButton = (model, change) => button("New noise", () => change("seed", (model.get("seed") + 1) % 2 ** 32));
