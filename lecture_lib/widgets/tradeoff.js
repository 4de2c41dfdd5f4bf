// Accuracy against cost, counted and measured: what the widgets of savings share.
const PLOT = { width: 520, height: 354, left: 64, right: 506, top: 76, bottom: 288 };

// Accuracy, FLOPs and milliseconds of every setting, both costs as shares of the full network's.
function tradeoff(accuracy, flops, milliseconds, full) {
  const { width, height, left, right, top, bottom } = PLOT;
  const counted = flops.map((cost) => cost / full[1]), timed = milliseconds.map((cost) => cost / full[2]);
  const widest = Math.max(1, ...counted, ...timed), lowest = Math.min(full[0], ...accuracy);
  const highest = Math.max(full[0], ...accuracy), room = Math.max(0.06 * (highest - lowest), 0.002);
  const x = scale(0, 1.04 * widest, left, right), y = scale(lowest - room, highest + room, bottom, top);
  const across = ticks(0, 1.04 * widest, 5).values, { values: up, decimals } = ticks(lowest - room, highest + room, 5);
  const heights = accuracy.map(y), ways = [[counted, "ll-counted", circle], [timed, "ll-timed", square]];
  const lines = ways.map(([shares, name]) =>
    svg("polyline", { points: points(shares.map(x), heights), class: `ll-line ${name}` }));
  const small = ways.flatMap(([shares, name, shape]) =>
    shares.map((share, i) => at(shape(4.5, `ll-stop ${name}`), x(share), heights[i])));
  const between = svg("path", { class: "ll-between" }), marks = ways.map(([, name, shape]) => shape(9, `ll-current ${name}`));
  const reference = svg("path", { d: `M${left} ${y(full[0]).toFixed(1)}H${right}`, class: "ll-reference" });
  const axes = svg("path", { class: "ll-axis", fill: "none", d: `M${left} ${top}V${bottom}H${right}` +
    across.map((share) => `M${x(share).toFixed(1)} ${bottom}v5`).join("") +
    up.map((value) => `M${left} ${y(value).toFixed(1)}h-5`).join("") });
  const sign = (way) => [svg("path", { d: "M-16 0H16", class: `ll-line ${way[1]}` }), way[2](8, `ll-current ${way[1]}`)];
  const panel = picture("Accuracy against cost", width, height, axes, reference, ...lines, ...small,
    at(diamond(), x(1), y(full[0])), between, ...marks,
    legend(18, 20, svg("g", {}, ...sign(ways[0])), "FLOPs"), legend(138, 20, svg("g", {}, ...sign(ways[1])), "measured time"),
    legend(352, 20, diamond(), "full network"),
    svg("text", { x: 2, y: top - 15 }, "accuracy"),
    svg("text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, "cost, as a share of the full network"),
    ...across.map((share) => svg("text", { x: x(share), y: bottom + 26, "text-anchor": "middle" }, percent(share))),
    ...up.map((value) => svg("text", { x: left - 10, y: y(value) + 7, "text-anchor": "end" }, value.toFixed(decimals))));
  const numbers = readouts(["accuracy", "FLOPs", "measured time"]);
  return {
    node: panel.node,
    numbers: numbers.node,
    show(i, name) {
      const places = [counted, timed].map((shares) => x(shares[i]));
      marks.forEach((mark, k) => at(mark, places[k], heights[i]));
      move(between, { d: `M${places[0].toFixed(1)} ${heights[i].toFixed(1)}H${places[1].toFixed(1)}` });
      const said = numbers.show([accuracy[i].toFixed(3), `(full: ${full[0].toFixed(3)})`],
        [percent(counted[i]), "of full"], [percent(timed[i]), `of full (${brief(milliseconds[i])} ms)`]);
      panel.describe(`${name}: ${said}`);
    },
  };
}

// The widget: a slider over the settings, the numbers, the curve, and a picture beside it, if there is one.
function tradeoffView({ model, el }, data, beside) {
  const { settings, accuracy, flops, milliseconds, full, control } = data;
  const choose = stops(control, settings, (value) => { model.set("setting", value); model.save_changes(); });
  const curve = tradeoff(accuracy, flops, milliseconds, full);
  el.classList.add("ll");
  el.replaceChildren(html("div", { class: "ll-controls" }, choose.node), curve.numbers,
    html("div", { class: "ll-panels" }, html("div", {}, curve.node), ...(beside ? [html("div", {}, beside.node)] : [])));
  return redrawOn(model, ["setting"], () => {
    const setting = model.get("setting"), i = settings.indexOf(setting), name = `${control} ${plain(setting)}`;
    choose.show(setting);
    curve.show(i, name);
    beside?.show(i, name);
  });
}
