// Mathematics as Jupyter's MathJax shows it, set by KaTeX in the order of the cells. What KaTeX lacks is said in its words.
const texts = [...document.querySelectorAll(".markdown, .html")];
const macros = {}; // what one cell defines holds in all that follow
const tags = new Map(); // the label of an equation → its tag, and whether it is written there
const unknown = "rgb(179, 38, 30)"; // the colour of a command that KaTeX does not know
const anchorOf = (label) => `eq-${label.replace(/\W+/g, "-")}`;
const edges = ["\\\\", "\\begin", "\\end", "$$", "\\[", "\\]"]; // of an equation's line

for (const element of texts) {
  const tex = element.textContent;
  for (const { index, 1: label } of tex.matchAll(/\\label\{([^}]*)\}/g)) {
    if (tags.has(label)) continue;
    const start = Math.max(...edges.map((edge) => tex.lastIndexOf(edge, index - 1)));
    const ends = edges.map((edge) => tex.indexOf(edge, index)).filter((end) => end > 0);
    const written = tex.slice(Math.max(start, 0), Math.min(...ends, tex.length)).match(/\\tag\*?\{([^}]*)\}/)?.[1];
    const numbered = [...tags.values()].filter((tag) => !tag.written).length;
    tags.set(label, { text: written ?? `${numbered + 1}`, written: written !== undefined });
    const anchor = document.createElement("span");
    anchor.id = anchorOf(label);
    element.prepend(anchor);
  }
}

const joined = (body, row) => body.split("\\\\").map(row).join("\\\\");
const environments = {
  eqnarray: (body) => joined(body, (row) => row.replace(/&([^&]*)&/, "&$1")),
  multline: (body) => joined(body, (row, k) => `&${k ? "\\qquad " : ""}${row}`),
};

function asKatex(tex) {
  return tex
    .replace(/\\require\{[^}]*\}|\\(begin|end)\{subequations\}/g, "")
    .replace(
      /\\DeclareMathOperator(\*?)\s*\{?(\\[A-Za-z]+)\}?\s*\{((?:[^{}]|\{[^{}]*\})*)\}/g,
      "\\newcommand{$2}{\\operatorname$1{$3}}",
    )
    .replace(/\\(?:re)?newcommand\*?\s*\{?\s*(\\[A-Za-z]+)\s*\}?/g, (_, name) => {
      macros[name] ??= ""; // MathJax lets a macro be defined twice
      return `\\renewcommand{${name}}`;
    })
    .replace(/\\begin\{(eqnarray|multline)\*?\}([\s\S]*?)\\end\{\1\*?\}/g, (_, name, body) => {
      return `\\begin{align}${environments[name](body)}\\end{align}`;
    })
    .replace(/\{flalign\*?\}/g, "{align}")
    .replace(/\{(equation|align|alignat|gather)\}/g, "{$1*}") // unnumbered, as in the notebook, but for labels
    .replace(/\\label\{([^}]*)\}/g, (_, label) => (tags.get(label)?.written ? "" : `\\tag{${tags.get(label)?.text}}`))
    .replace(/\\(eq)?ref\{([^}]*)\}/g, (ref, brackets, label) => {
      if (!tags.has(label)) return ref; // KaTeX does not know it, and says so
      const text = brackets ? `(${tags.get(label).text})` : tags.get(label).text;
      return `\\href{#${anchorOf(label)}}{\\text{${text}}}`;
    });
}

const named = "equation align alignat flalign gather eqnarray multline".split(" ");
named.push(...named.map((name) => `${name}*`), "split", "aligned", "gathered", "cases", "array", "subequations", "CD");
named.push(..."matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix".split(" "));
for (const element of texts) {
  renderMathInElement(element, {
    delimiters: [
      { left: "$$", right: "$$", display: true },
      { left: "\\[", right: "\\]", display: true },
      { left: "\\(", right: "\\)", display: false },
      { left: "$", right: "$", display: false },
      ...named.map((name) => ({ left: `\\begin{${name}}`, right: `\\end{${name}}`, display: true })),
    ],
    macros,
    globalGroup: true,
    preProcess: asKatex,
    throwOnError: false,
    errorColor: unknown,
    strict: "ignore",
    trust: ({ url }) => url?.startsWith("#"),
    // the speaker's window has none of our styles: there the browser itself sets the mathematics
    output: element.closest("aside.notes") ? "mathml" : "htmlAndMathml",
  });
  for (const command of element.querySelectorAll(`.katex [style*="${unknown}"]`)) {
    const formula = command.closest(".katex");
    formula.classList.add("katex-error");
    formula.title = `no command ${command.textContent}`;
  }
  // a reference in a sentence stands outside of dollars
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const sentences = [];
  while (walker.nextNode()) sentences.push(walker.currentNode);
  for (const node of sentences) {
    if (!/\\(eq)?ref\{/.test(node.data) || node.parentElement.closest("pre, code, .katex, .katex-error")) continue;
    node.replaceWith(...node.data.split(/(\\(?:eq)?ref\{[^}]*\})/).map((part, k) => (k % 2 ? reference(part) : part)));
  }
}

function reference(tex) {
  const [, brackets, label] = tex.match(/\\(eq)?ref\{([^}]*)\}/);
  const link = document.createElement(tags.has(label) ? "a" : "span");
  if (tags.has(label)) link.href = `#${anchorOf(label)}`;
  else Object.assign(link, { className: "katex-error", title: `no equation has \\label{${label}}` });
  const text = tags.get(label)?.text ?? "???";
  link.textContent = brackets ? `(${text})` : text;
  return link;
}
