// Follows host.js, math.js, charts.js and fit.js in one module: the slides themselves.
const preview = /[?&]receiver\b/.test(location.search); // a frame of the speaker's window

// A focused slider keeps its arrow keys (reveal.js sees to it), as does what scrolls, and a button its space bar. The
// page keys always turn the slide: they are what a presenter's remote control sends, also after a slider was dragged.
// Escape gives keys back.
addEventListener(
  "keydown",
  (event) => {
    const field = document.activeElement?.matches("input, select, textarea, .scrolls") && event.key === "Escape";
    if (field || ["PageUp", "PageDown"].includes(event.key)) document.activeElement?.blur();
    if (field) event.stopPropagation(); // else it would open the overview
  },
  true,
);
const pressing = ({ key }) => [" ", "Enter"].includes(key) && document.activeElement?.closest("button, summary, a");
const isScrolling = ({ key }) => key?.startsWith("Arrow") && document.activeElement?.matches(".scrolls");

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

// The stage is 1280 x 720, as large as the window allows. It never gets so small that text cannot be read: a window of
// a phone, or one much enlarged, has a stage of another size, whose slides scroll, and where each swipe is a step.
const LEAST_SCALE = 0.64; // 18 px for text of 28 px
const talk = document.querySelector("[data-timing]");
const linear = talk || report.some(({ what }) => what.includes("split into")); // no arrow key skips a slide
function stage() {
  const scale = Math.min(innerWidth / 1280, innerHeight / 720) / LEAST_SCALE;
  const small = scale < 1 && !printing && !preview;
  document.documentElement.classList.toggle("small", small);
  return {
    width: small ? Math.floor(innerWidth / LEAST_SCALE) : 1280,
    height: small ? Math.floor(innerHeight / LEAST_SCALE) : 720,
    navigationMode: small || linear ? "linear" : "default",
  };
}
for (const image of document.querySelectorAll(".figure img")) {
  const ratio = () => image.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  image.decode().then(ratio, () => {});
}

// A finger that moves a slider, or what is wider than its box, does not turn the slide as well.
addEventListener(
  "pointerdown",
  ({ target }) => {
    const field = getComputedStyle(target).touchAction === "none" ? target : target.closest("input, select, textarea");
    if (field) field.dataset.preventSwipe = "";
  },
  true,
);
function findWide() {
  for (const element of Reveal.getCurrentSlide().querySelectorAll(
    ".scrolls, .figure, .output, .html, .html *, .markdown *",
  )) {
    const wide = getComputedStyle(element).overflowX === "auto" && element.scrollWidth > element.clientWidth + 1;
    element.classList.toggle("wide", wide);
    element.toggleAttribute("data-prevent-swipe", wide);
  }
}

// Widgets of the speaker's window follow those of the deck's, and back: their values are part of reveal.js's state.
const together = {
  id: "together",
  init(deck) {
    const { getState, setState } = deck;
    deck.getState = () => ({ ...getState(), widgets: moved });
    deck.setState = (state) => {
      setState(state);
      follow(state.widgets);
    };
    addEventListener("moved", () => {
      const type = "closeoverlay"; // an event that says no more than that there is a new state
      if (!preview) deck.dispatchEvent({ type });
      else if (deck.getConfig().postMessageEvents)
        parent.postMessage(JSON.stringify({ namespace: "reveal", eventName: type, state: deck.getState() }), "*");
    });
  },
};

await Reveal.initialize({
  ...stage(),
  maxScale: 20,
  margin: 0,
  center: false,
  display: "flex",
  hash: true,
  history: !preview, // Back leads to the slide shown before
  slideNumber: "c/t",
  transition: "none",
  controlsTutorial: false,
  ...(talk && { defaultTiming: 60 }), // the speaker's window shows the pace
  pdfSeparateFragments: false,
  pdfMaxPagesPerSlide: document.querySelector(".long") ? 99 : 1,
  keyboardCondition: (event) => !pressing(event) && !isScrolling(event),
  scrollActivationWidth: 0,
  plugins: [RevealNotes, together],
});

function resize() {
  const [now, next] = [Reveal.getConfig(), stage()];
  if (now.width !== next.width || now.height !== next.height) Reveal.configure(next);
  findWide();
}
addEventListener("resize", resize);
resize();
addEventListener(
  "keydown",
  (event) => {
    const slide = Reveal.getCurrentSlide();
    const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!way || !document.querySelector(".small") || document.activeElement !== document.body) return;
    const left = way > 0 ? slide.scrollHeight - slide.clientHeight - slide.scrollTop : slide.scrollTop;
    if (left < 2) return; // its end: the key turns the slide
    slide.scrollBy({ top: 0.7 * way * slide.clientHeight });
    event.preventDefault();
    event.stopPropagation();
  },
  true,
);

Reveal.on("slidechanged", ({ currentSlide }) => {
  currentSlide.scrollTop = 0;
  findWide();
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
  for (const [message, script] of window.broken ?? []) add("script", script, `a script failed: ${message}`);
  const refused = new ReportingObserver(() => {}, { types: ["csp-violation"], buffered: true });
  refused.observe();
  for (const { body } of refused.takeRecords()) {
    add("fetch", null, `something asks for ${body.blockedURL}, which is not in the deck`);
  }
  const script = document.createElement("script");
  Object.assign(script, { type: "application/json", id: "report" });
  const all = report.map(({ kind, element, what }) => {
    const { h, v } = (element?.closest("section") && Reveal.getIndices(element.closest("section"))) || {};
    const cell = element?.closest("[data-cell]") ?? element?.querySelector("[data-cell]");
    const slide = h === undefined ? "" : `${h + 1}.${(v ?? 0) + 1}`;
    return { kind, what, slide, cell: Number(cell?.dataset.cell ?? 0) };
  });
  script.textContent = JSON.stringify(all).replaceAll("<", "\\u003c");
  document.body.append(script);
}
