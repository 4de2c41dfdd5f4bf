// Accuracy against cost, counted and measured: what the widgets of savings share.
const PLOT = { width: 520, height: 324, left: 64, right: 506, top: 46, bottom: 258 };

// Accuracy, FLOPs and milliseconds of every setting, both costs as shares of the full network's; a rival has no time.
function tradeoff(accuracy, flops, milliseconds, full, rival = { accuracy: [], flops: [] }) {
  const { width, height, left, right, top, bottom } = PLOT;
  const counted = flops.map((cost) => cost / full[1]);
  const timed = milliseconds.map((cost) => cost / full[2]);
  const others = rival.flops.map((cost) => cost / full[1]);
  const widest = Math.max(1, ...counted, ...timed, ...others);
  const lowest = Math.min(full[0], ...accuracy, ...rival.accuracy);
  const highest = Math.max(full[0], ...accuracy, ...rival.accuracy);
  const room = Math.max(0.06 * (highest - lowest), 0.002);
  const x = scale(0, 1.04 * widest, left, right);
  const y = scale(lowest - room, highest + room, bottom, top);
  const across = ticks(0, 1.04 * widest, 4).values;
  const { values: up, decimals } = ticks(lowest - room, highest + room, 5);
  const heights = accuracy.map(y);
  const ways = [
    [counted, "ll-counted", circle],
    [timed, "ll-timed", square],
  ];
  const lines = ways.map(([shares, name]) =>
    svg("polyline", { points: points(shares.map(x), heights), class: `ll-line ${name}` }),
  );
  const small = ways.flatMap(([shares, name, shape]) =>
    shares.map((share, i) => at(shape(4.5, `ll-stop ${name}`), x(share), heights[i])),
  );
  const between = svg("path", { class: "ll-between" });
  const marks = ways.map(([, name, shape]) => shape(9, `ll-current ${name}`));
  const reference = svg("path", { d: `M${left} ${y(full[0]).toFixed(1)}H${right}`, class: "ll-reference" });
  const panel = picture(
    "Accuracy against cost",
    width,
    height,
    ...axes(PLOT, [x, across, percent], [y, up, fixed(decimals)]),
    reference,
    svg("polyline", { points: points(others.map(x), rival.accuracy.map(y)), class: "ll-line ll-other" }),
    ...others.map((share, i) => at(cross(6), x(share), y(rival.accuracy[i]))),
    ...lines,
    ...small,
    at(diamond(11), x(1), y(full[0])),
    between,
    ...marks,
    svg(
      "text",
      { x: 2, y: top - 20 },
      "accuracy",
      svg("tspan", { class: "ll-odd" }, ` (axis from ${(lowest - room).toFixed(decimals)})`),
    ),
    svg("text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, "cost, as a share of full"),
  );
  const numbers = readouts(["accuracy", "FLOPs", "measured time"]);
  return {
    node: [
      legend(
        curveEntry(circle, "ll-counted", "FLOPs"),
        curveEntry(square, "ll-timed", "measured time"),
        [diamond(9), "full network"],
        ...(rival.name ? [[cross(6), `${rival.name}, FLOPs`]] : []),
      ),
      panel.node,
    ],
    numbers: numbers.node,
    show(i, name) {
      const places = [counted, timed].map((shares) => x(shares[i]));
      marks.forEach((mark, k) => at(mark, places[k], heights[i]));
      move(between, { d: `M${places[0].toFixed(1)} ${heights[i].toFixed(1)}H${places[1].toFixed(1)}` });
      const said = numbers.show(
        [accuracy[i].toFixed(3), `(full: ${full[0].toFixed(3)})`],
        [percent(counted[i]), "of full"],
        [percent(timed[i]), `of full (${brief(milliseconds[i])} ms)`],
      );
      panel.describe(`${name}: ${said}`);
    },
  };
}

// The widget: a slider over the settings, the numbers, the curve, and a picture beside it, if there is one.
function tradeoffView({ model, el }, data, beside) {
  const { settings, accuracy, flops, milliseconds, full, control, rival } = data;
  const choose = stops(model, "setting", control, settings);
  const curve = tradeoff(accuracy, flops, milliseconds, full, rival);
  lay(el, controls(choose.node), curve.numbers, panels(curve.node, ...(beside ? [beside.node] : [])));
  return redrawOn(model, ["setting"], () => {
    const setting = model.get("setting");
    const i = settings.indexOf(setting);
    const name = `${control} ${plain(setting)}`;
    choose.show(setting);
    curve.show(i, name);
    beside?.show(i, name);
  });
}
