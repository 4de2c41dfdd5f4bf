// What does not fit a slide of 1280 x 720. A block too wide and a slide too full are scaled down as far as text can be
// read; then a slide is split between its blocks, and a block that no slide holds scrolls, or is printed over many
// pages. Each such act is reported. A slide that fits stays as it is.
export const printing = /print-pdf/i.test(location.search);
export const report = [];
const note = (element, what) => report.push({ kind: "fit", element, what });
const ROOM = 636; // px from a slide's first line to its number
const LESS = 612; // what is made to fit leaves some room above it
const LEAST_TEXT = 18;
const LEAST_FIGURE = 150;
const LEAST_PICTURE = 50; // in a widget
const TITLES = "h1, h2";
const MANY = 4; // a text of more slides than these scrolls

// The box around all that an element shows.
function extent(element, box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity }) {
  const { left, top, right, bottom, width, height } = element.getBoundingClientRect();
  if (width && height && !element.matches("section")) {
    box.left = Math.min(box.left, left);
    box.top = Math.min(box.top, top);
    box.right = Math.max(box.right, right);
    box.bottom = Math.max(box.bottom, bottom);
  }
  if (element.matches(".katex")) {
    for (const base of element.querySelectorAll(".katex-base"))
      box.right = Math.max(box.right, base.getBoundingClientRect().right);
  } else if (!element.matches("aside, svg") && getComputedStyle(element).overflow === "visible") {
    for (const child of element.children) extent(child, box);
  }
  return box;
}

const heightOf = (element) => {
  const { top, bottom } = extent(element);
  return Math.max(0, bottom - top);
};

// The smallest text, in px; exponents and indices may be smaller.
function smallestText(element) {
  const sizes = [LEAST_TEXT * 2];
  const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const parent = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || parent.closest("aside, .katex-mathml, sup, sub, script, style")) continue;
    const holder = parent.closest(".katex") ?? parent;
    if (!holder.getClientRects().length) continue;
    const scale = holder.closest("svg text") ? holder.getScreenCTM().a : (holder.currentCSSZoom ?? 1);
    sizes.push(scale * parseFloat(getComputedStyle(holder).fontSize));
  }
  return Math.min(...sizes);
}

// How high a figure, or a widget's picture, must at least be: less where it is less at full width.
function leastHeight(picture) {
  const [width, height, least] =
    picture.tagName === "IMG"
      ? [picture.naturalWidth, picture.naturalHeight, LEAST_FIGURE]
      : [picture.viewBox.baseVal.width, picture.viewBox.baseVal.height, LEAST_PICTURE];
  return Math.min(least, (picture.getBoundingClientRect().width * height) / (width || 1));
}

const fits = (section, room = LESS) =>
  heightOf(section) <= room + 1 &&
  [...section.querySelectorAll(".figure img, svg.ll-picture")].every(
    (picture) => picture.getBoundingClientRect().height >= leastHeight(picture) - 1,
  );

// What a slide can be split between.
function blocks(element) {
  return [...element.children].flatMap((child) => {
    const text = [...child.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (child.matches(".cell, .column, .markdown:not(:has(> details)), ul, ol") && !text) return blocks(child);
    return child.matches("aside") || !child.getClientRects().length ? [] : [child];
  });
}

const nameOf = (block) =>
  [
    [".highlight, .markdown pre", "code"],
    [".output", "an output"],
    ["table, .html:has(table)", "a table"],
    [".katex-display, p:has(> .katex-display)", "a formula"],
    [".chart", "a chart"],
    [".widget", "a widget"],
    ["ul, ol, li", "a list"],
    [".row", "a row"],
    [":has(> details)", "a prediction"],
    ["p", "a paragraph"],
  ].find(([selector]) => block.matches(selector))?.[1] ?? "an output";

// A box of its own, in which a block scrolls by touch, by wheel, and by the arrow keys where it has the focus.
function scrolling(block) {
  if (block.parentElement.matches(".scrolls")) return block.parentElement;
  const box = document.createElement("div");
  box.className = "scrolls";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", `${nameOf(block)}, scrolls`);
  if (block.matches("li")) {
    box.append(...block.childNodes);
    block.append(box);
  } else {
    block.replaceWith(box);
    box.append(block);
  }
  return box;
}

const percent = (scale) => `${Math.round(scale * 100)} %`;

function narrow(block) {
  const { right } = block.parentElement.getBoundingClientRect();
  const excess = () => extent(block).right - right;
  if (excess() <= 1) return;
  const { left } = block.getBoundingClientRect();
  const width = extent(block).right - left;
  const least = printing ? 0.05 : Math.min(1, LEAST_TEXT / smallestText(block));
  let scale = (right - left) / width;
  do {
    block.style.zoom = Math.max(scale, least);
    scale *= 0.97;
  } while (scale > least && excess() > 1);
  const scaled = block.currentCSSZoom < 1 ? `, scaled to ${percent(block.style.zoom)}` : "";
  if (excess() > 1) scrolling(block);
  note(block, `${nameOf(block)} ${Math.round(width)} px wide${scaled}${excess() > 1 ? " and scrolls" : ""}`);
}

// Scales all of a slide as little as needed; gives the scale, or nothing where text would be too small.
function scaled(section) {
  const set = (scale) => {
    section.style.setProperty("--fit", scale);
    return fits(section);
  };
  section.classList.add("scaled");
  let [small, large] = [Math.min(1, LEAST_TEXT / smallestText(section)), 1];
  if (small < 1 && set(small)) {
    while (large - small > 0.01) {
      const middle = (small + large) / 2;
      if (set(middle)) small = middle;
      else large = middle;
    }
    set(small);
    return small;
  }
  section.classList.remove("scaled");
  section.style.removeProperty("--fit");
}

// Where a long text may be cut, so that what is above `limit` stays: before a line of code or of an output, or a row.
function within(block, limit) {
  if (heightOf(block) < LESS / 2 || heightOf(block) > MANY * LESS) return null;
  const rows = [...block.querySelectorAll("tbody tr")];
  const row = rows.findIndex((one) => one.getBoundingClientRect().bottom > limit);
  if (row > 1) return { before: rows[row] };
  const pre = block.matches("pre") ? block : block.querySelector("pre");
  if (!pre) return null;
  const lines = document.createRange();
  lines.selectNodeContents(pre);
  const texts = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT);
  const ends = [];
  while (texts.nextNode()) {
    for (const { index } of texts.currentNode.data.matchAll(/\n/g)) {
      lines.setEnd(texts.currentNode, index + 1);
      if (lines.getBoundingClientRect().bottom > limit - 20) return ends.length > 3 ? ends.at(-1) : null;
      ends.push({ node: texts.currentNode, offset: index + 1 });
    }
  }
  return null;
}

// Moves what one slide does not hold to a new one after it, and gives that.
function split(section) {
  section.classList.add("full"); // figures as small as they may be
  for (const image of section.querySelectorAll(".figure img"))
    image.parentElement.style.height = `${Math.min(1.6 * leastHeight(image), image.naturalHeight)}px`;
  const all = blocks(section);
  const { top } = extent(section);
  const isTitle = (block) => block.matches(TITLES);
  let at = all.findIndex((block, k) => (k && isTitle(block)) || extent(block).bottom - top > LESS);
  const cut = at >= 0 && !(at && isTitle(all[at])) && within(all[at], top + LESS);
  if (at >= 0 && !cut && !isTitle(all[at])) {
    // a heading stays with what it is about, a line of code with what it shows
    const stays = (block) =>
      block.matches("h1, h2, h3, h4, h5, h6") || (block.matches(".highlight") && heightOf(block) < 120);
    while (at > 2 && stays(all[at - 1])) at--;
    const above = extent(all[at]).top - top; // what is more than a slide, or is first there, scrolls
    if (at === 0 || (at === 1 && isTitle(all[0])) || (heightOf(all[at]) > LESS && above < LESS / 2)) at++;
  }
  section.classList.remove("full");
  for (const image of section.querySelectorAll(".figure img")) image.parentElement.style.height = "";
  if (!cut && (at < 1 || at >= all.length)) return;

  const list = all[at].matches("ol > li") && all[at].parentElement;
  const head = cut?.before?.closest("table").tHead;
  let start = cut?.before ?? all[at];
  while (!cut && start.parentElement !== section && !start.previousElementSibling) start = start.parentElement;
  section.prepend(...section.querySelectorAll("aside"));
  const range = document.createRange();
  if (cut?.node) range.setStart(cut.node, cut.offset);
  else range.setStartBefore(start);
  range.setEndAfter(section.lastChild);
  const rest = section.cloneNode(false);
  rest.append(range.extractContents());
  if (head) rest.querySelector("table").prepend(head.cloneNode(true));
  const continued = list?.isConnected && rest.querySelector("ol");
  if (continued && start === all[at]) continued.start = list.start + list.children.length;
  if (!section.parentElement.matches("section")) {
    const stack = document.createElement("section");
    stack.className = "stack";
    section.replaceWith(stack);
    stack.append(section);
  }
  section.after(rest);
  return rest;
}

function repeatTitle(title, number, section) {
  if (!title) return;
  const cell = document.createElement("div");
  cell.className = "cell";
  cell.dataset.cell = section.querySelector("[data-cell]")?.dataset.cell ?? "";
  cell.innerHTML = '<div class="markdown"><h2></h2></div>';
  const copy = cell.querySelector("h2");
  copy.append(...title.cloneNode(true).childNodes, ` (${number})`);
  copy.querySelectorAll("[id]").forEach((element) => element.removeAttribute("id"));
  section.prepend(cell);
}

// Splits a slide until each part holds no more than it must.
function splitAll(section) {
  const parts = [section];
  let title = null;
  let number = 1;
  for (let rest = section; rest; ) {
    const titles = rest.querySelectorAll(`.cell :is(${TITLES})`);
    if (titles.length && number === 1) title = titles[0];
    if (fits(rest) && titles.length < 2) break;
    rest = split(rest);
    if (!rest) break;
    parts.push(rest);
    number = blocks(rest)[0]?.matches(TITLES) ? 1 : number + 1;
    if (number > 1) repeatTitle(title, number, rest);
  }
  const seconds = section.dataset.timing;
  if (seconds) parts.forEach((part) => (part.dataset.timing = Math.round(seconds / parts.length)));
  return parts;
}

// The block that makes a slide too tall.
function tall(section) {
  const block = blocks(section).toSorted((a, b) => heightOf(b) - heightOf(a))[0];
  if (!block) return;
  const height = heightOf(block);
  const what = `${nameOf(block)} ${Math.round(height)} px tall`;
  const room = height - (heightOf(section) - LESS);
  if (block.matches(".chart, .widget, .row") && (printing || room > 0.6 * height)) {
    block.style.zoom = room / height;
    note(block, `${what}, scaled to ${percent(room / height)}`);
  } else if (printing) {
    const pages = Math.ceil(heightOf(section) / 580); // a page's room, less a line that is not to be cut
    section.classList.add("long");
    section.style.minHeight = `${719 * pages}px`;
    note(block, `${what}, over ${pages} pages`);
  } else {
    scrolling(block).style.maxHeight = `${Math.max(200, room)}px`;
    note(block, `${what}, scrolls`);
  }
}

function fit(section) {
  for (const block of blocks(section)) {
    const inner = block.matches(".row") ? [...block.children].flatMap(blocks) : [block];
    for (const one of inner) narrow(one);
  }
  if (fits(section, ROOM)) return;
  const size = `1280 x ${Math.round(heightOf(section)) + 84} px`;
  const scale = scaled(section);
  if (scale) {
    note(section, `${size}, scaled to ${percent(scale)}`);
    return;
  }
  const parts = splitAll(section);
  if (parts.length > 1) note(section, `${size}, split into ${parts.length} slides`);
  for (const part of parts) if (!fits(part) && !scaled(part)) tall(part);
}

document.querySelectorAll(".slides > section:has(> section)").forEach((stack) => stack.classList.add("stack"));
document.querySelectorAll(".slides details").forEach((answer) => (answer.open = true));
document.documentElement.classList.add("fitting");
const loading = [...document.images].filter((image) => !image.complete);
await Promise.all(loading.map((image) => new Promise((done) => (image.onload = image.onerror = done))));
document.body.getBoundingClientRect(); // asks for the fonts
await document.fonts.ready;
await Promise.race([new Promise(requestAnimationFrame), new Promise((done) => setTimeout(done, 100))]);
for (const section of document.querySelectorAll(".slides section:not(.stack)")) fit(section);
document.documentElement.classList.remove("fitting");
