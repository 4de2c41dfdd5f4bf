// Follows host.js in one module: mathematics, then the slides themselves.
for (const element of document.querySelectorAll(".markdown")) {
  renderMathInElement(element, {
    delimiters: [
      { left: "$$", right: "$$", display: true },
      { left: "\\[", right: "\\]", display: true },
      { left: "\\(", right: "\\)", display: false },
      { left: "$", right: "$", display: false },
      ...["equation", "equation*", "align", "align*", "gather", "gather*"].map((name) => ({
        left: `\\begin{${name}}`,
        right: `\\end{${name}}`,
        display: true,
      })),
    ],
    preProcess: (tex) => tex.replace(/\{(equation|align|gather)\}/g, "{$1*}"), // unnumbered, as in the notebook
    throwOnError: false,
    // the speaker's window has none of our styles: there the browser itself sets the mathematics
    output: element.closest("aside.notes") ? "mathml" : "htmlAndMathml",
  });
}

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
const printing = /print-pdf/i.test(location.search);
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
  pdfMaxPagesPerSlide: 1,
  keyboardCondition: (event) => !pressing(event),
  plugins: [RevealNotes],
});
