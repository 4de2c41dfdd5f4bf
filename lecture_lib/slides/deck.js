// Follows host.js, math.js and charts.js in one module: the slides themselves.
// A focused slider keeps its arrow keys (reveal.js sees to it), and a button its space bar. The page keys always turn
// the slide: they are what a presenter's remote control sends, also after a slider was dragged.
addEventListener(
  "keydown",
  (event) => {
    if (["PageUp", "PageDown"].includes(event.key)) document.activeElement?.blur();
  },
  true,
);
const pressing = (event) => [" ", "Enter"].includes(event.key) && document.activeElement?.closest("button, summary, a");

// A prediction: the next key opens the right answer, as a fragment, and the key back closes it. A handout shows all.
for (const answer of document.querySelectorAll(".slides details:not(aside details)")) {
  answer.open = printing;
  if (answer.querySelector("p strong")?.textContent !== "Yes.") continue;
  answer.classList.add("fragment", "custom"); // custom: reveal.js does not hide it before its turn
  if (printing) continue;
  new MutationObserver(() => {
    answer.open = answer.classList.contains("visible");
  }).observe(answer, { attributeFilter: ["class"] });
}

// In print reveal.js leaves all slides but one hidden from assistive technology, and so from a PDF's tags and outline.
Reveal.on("pdf-ready", () =>
  document.querySelectorAll(".slides section").forEach((slide) => {
    slide.removeAttribute("aria-hidden");
    slide.removeAttribute("hidden");
  }),
);

await Reveal.initialize({
  width: 1280,
  height: 720,
  margin: 0,
  center: false,
  display: "flex",
  hash: true,
  slideNumber: "c/t",
  transition: "none",
  controlsTutorial: false,
  // a talk: the speaker's window shows the pace, and no arrow key skips a slide
  ...(document.querySelector("[data-timing]") && { defaultTiming: 60, navigationMode: "linear" }),
  pdfSeparateFragments: false,
  pdfMaxPagesPerSlide: document.querySelector(".long") ? 99 : 1,
  keyboardCondition: (event) => !pressing(event),
  plugins: [RevealNotes],
});

// What went wrong here, for the export, which asks with `?look`.
if (/[?&]look\b/.test(location.search)) {
  await new Promise((done) => setTimeout(done, 500)); // what asks for something has asked
  const add = (kind, element, what) => report.push({ kind, element, what });
  for (const formula of document.querySelectorAll(".katex-error")) {
    const tex = formula.querySelector("annotation")?.textContent ?? formula.textContent;
    add("mathematics", formula, `KaTeX cannot set ${tex.trim().slice(0, 60)}: ${formula.title}`);
  }
  for (const place of document.querySelectorAll(".widget, .chart")) {
    if (/^This (widget|chart) failed/.test(place.textContent)) add("widget", place, place.textContent.slice(0, 200));
  }
  const refused = new ReportingObserver(() => {}, { types: ["csp-violation"], buffered: true });
  refused.observe();
  for (const { body } of refused.takeRecords()) {
    add("fetch", null, `something asks for ${body.blockedURL}, which is not in the deck`);
  }
  const script = document.createElement("script");
  Object.assign(script, { type: "application/json", id: "report" });
  const all = report.map(({ kind, element, what }) => {
    const { h, v } = (element && Reveal.getIndices(element.closest("section"))) || {};
    const cell = element?.closest("[data-cell]") ?? element?.querySelector("[data-cell]");
    const slide = h === undefined ? "" : `${h + 1}.${(v ?? 0) + 1}`;
    return { kind, what, slide, cell: Number(cell?.dataset.cell ?? 0) };
  });
  script.textContent = JSON.stringify(all).replaceAll("<", "\\u003c");
  document.body.append(script);
}
