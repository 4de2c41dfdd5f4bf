// A browser's own search finds only what is shown: Ctrl+Shift+F, or /, looks through all slides, and changes none.
{
  const form = document.createElement("form");
  form.className = "search";
  form.hidden = true;
  form.setAttribute("role", "search");
  form.innerHTML =
    '<input type="search" aria-label="Search all slides" placeholder="Search all slides"><output></output>';
  document.body.append(form);
  const [input, output] = form.children;
  let hits = []; // ranges
  let at = -1;

  function find(words) {
    const escaped = words.trim().replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    if (!escaped) return [];
    const pattern = new RegExp(escaped.replace(/\s+/g, "\\s+"), "gi");
    return Reveal.getSlides().flatMap((slide) => {
      const texts = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT, ({ parentElement }) =>
        parentElement.closest("aside.notes, .katex-mathml, style, script") ? 2 : 1,
      );
      const nodes = [];
      let text = "";
      while (texts.nextNode()) {
        nodes.push({ node: texts.currentNode, start: text.length });
        text += texts.currentNode.data;
      }
      return [...text.matchAll(pattern)].map(({ 0: { length }, index }) => {
        const range = document.createRange();
        const [first, last] = [index, index + length - 1].map((k) => nodes.findLast(({ start }) => start <= k));
        range.setStart(first.node, index - first.start);
        range.setEnd(last.node, index + length - last.start);
        return range;
      });
    });
  }

  const slideOf = (range) => range.startContainer.parentElement.closest("section");
  function mark() {
    CSS.highlights?.set("hit", new Highlight(...hits));
    CSS.highlights?.set("here", new Highlight(...hits.slice(at, at + 1 || at)));
    output.value = hits.length ? `${at < 0 ? "" : `${at + 1} of `}${hits.length}` : input.value && "none";
  }
  function search() {
    hits = find(input.value);
    at = -1;
    mark();
  }
  function go(step) {
    if (!hits.length) return;
    const slides = Reveal.getSlides();
    const now = Reveal.getSlidePastCount();
    if (at < 0)
      at = Math.max(
        0,
        hits.findIndex((hit) => slides.indexOf(slideOf(hit)) >= now),
      );
    else at = (at + step + hits.length) % hits.length;
    const place = hits[at].startContainer.parentElement;
    const { h, v } = Reveal.getIndices(slideOf(hits[at]));
    Reveal.slide(h, v, place.closest(".fragment:not(.visible)") ? 99 : undefined);
    for (let answer = place.closest("details"); answer; answer = answer.parentElement.closest("details"))
      answer.open = true;
    place.scrollIntoView({ block: "nearest" });
    mark();
  }
  function close() {
    form.hidden = true;
    hits = [];
    CSS.highlights?.clear();
    input.blur();
  }

  input.addEventListener("input", search);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter") go(event.shiftKey ? -1 : 1);
  });
  addEventListener(
    "keydown",
    (event) => {
      const { key, ctrlKey, metaKey, altKey, shiftKey } = event;
      const combined = (ctrlKey || metaKey) && shiftKey && key.toLowerCase() === "f";
      const slash =
        key === "/" && !ctrlKey && !metaKey && !altKey && !event.target.closest?.("input, select, textarea");
      if (key === "Escape" && !form.hidden) close();
      else if (!combined && !slash) return;
      else {
        form.hidden = false;
        input.select();
        search();
      }
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    true,
  );
  Reveal.registerKeyboardShortcut("CTRL + Shift + F  ,  /", "Search all slides");
}
