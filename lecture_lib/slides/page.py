"""A page that stands alone: pictures embedded, links within it kept, and what it would fetch found."""

import base64
import mimetypes
import re
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup
from mistune import HTMLRenderer
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

_NO_ALT = "No description has been provided for this image"  # nbconvert's stopgap
_MEDIA = {"img", "video", "audio", "source"}
_FETCHING = ("src", "srcset", "poster", "data", "href", "xlink:href")
_HEADINGS = re.compile("h[1-6]")


class Said(defaultdict):
    """What there is to say about cells, by number, one line for each; 0 is the whole notebook."""

    def __init__(self):
        super().__init__(list)

    def lines(self) -> list[str]:
        said = {number: "; ".join(dict.fromkeys(self[number])) for number in sorted(self) if self[number]}
        return [f"cell {number}: {text}" if number else text for number, text in said.items()]


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown, with two things left to the page: pictures are embedded there, mathematics is set there."""

    def image(self, text, url, title=None):
        return HTMLRenderer.image(self, text, url, title)

    def text(self, text):
        return super().text(text).replace("$", '<span class="dollar">$</span>')  # else it would begin mathematics

    def block_html(self, html):
        return super().block_html(re.sub(r"\$[^$\n]+\$", _formula, html))


def _formula(found: re.Match) -> str:
    """A formula within HTML, where its `<` would begin a tag; what has a tag in it is no formula."""
    return found[0] if re.search(r"</?[a-zA-Z][^<>$]*>", found[0]) else found[0].replace("<", "&lt;")


def markdown(source: str, **options) -> str:
    """Markdown as a piece of HTML that ends what it begins."""
    renderer = _Renderer(escape=False, exclude_anchor_links=True, **options)
    return balanced(MarkdownWithMath(renderer=renderer).render(_with_whole_tables(source)))


def balanced(piece: str) -> str:
    """HTML by itself, as Jupyter parses it: no stray end tag or open comment reaches what comes after it."""
    return str(BeautifulSoup(piece, "html.parser"))


_RULE = re.compile(r"\s*\|?(\s*:?-+:?\s*\|)*\s*:?-+:?\s*\|?\s*")
_BAR = re.compile(r"(?<!\\)\|")


def _with_whole_tables(source: str) -> str:
    """Tables as JupyterLab reads them, and mistune does not: `|` within a formula, rows with too few or many cells."""
    lines, fence, columns = source.split("\n"), "", 0
    for k, line in enumerate(lines):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if fence or mark:
            if not fence:
                fence = mark[1]
            elif mark and mark[1].startswith(fence) and line.strip() == mark[1]:
                fence = ""
            columns = 0
            continue
        below = lines[k + 1] if k + 1 < len(lines) else ""
        if "|" in line and "|" in below and _RULE.fullmatch(below):
            columns = len(_cells(below))
        elif not line.strip() or "|" not in line:
            columns = 0
        if columns and not _RULE.fullmatch(line):
            row = re.sub(r"\$[^$]+\$", lambda formula: _BAR.sub(r"\\vert ", formula[0]), line)
            cells = _cells(row)
            if row != line or len(cells) != columns:
                lines[k] = "| " + " | ".join([*cells, *[""] * columns][:columns]) + " |"
    return "\n".join(lines)


def _cells(row: str) -> list[str]:
    row = row.strip().removeprefix("|")
    return [cell.strip() for cell in _BAR.split(row[:-1] if row.endswith("|") and row[-2:] != "\\|" else row)]


def finish(page: str, folder: Path, attachments: dict, wrong: Said, warned: Said, allow_missing_alt: bool) -> str:
    """Embeds the files that a page shows, resolves its links to headings, and says what it would fetch.

    `attachments` holds those of each cell, by number; files are looked for in `folder`.
    """
    soup = BeautifulSoup(page, "html.parser")
    for cell in soup.select("[data-cell]"):
        number = int(cell["data-cell"])
        for badge in cell.select('a > img[src^="http"][alt]'):
            if words := badge["alt"].strip().replace(_NO_ALT, ""):
                warned[number].append(f"the badge {words!r} is from the network: its words are shown")
                badge.replace_with(words)
        for tag in cell.find_all(True):
            for css in (tag.get("style", ""), tag.string or "" if tag.name == "style" else ""):
                for url in re.findall(r"""url\(\s*['"]?(?!data:|#|['"])([^)'"]+)|(@import[^;]*)""", css):
                    wrong[number].append(f"a style would fetch {''.join(url)[:100]}: embed it")
            if tag.name in _MEDIA and (url := tag.get("src", "")) and not re.match(r"(?!attachment:)\w+:|//|#", url):
                _embed(tag, url, folder, attachments.get(number, {}), wrong[number])
            for key in _FETCHING:
                url = tag.get(key, "").strip()
                if url and not url.startswith(("data:", "#")) and not (tag.name == "a" and key == "href"):
                    wrong[number].append(f"<{tag.name}> would fetch {url[:100]}: embed it")
            if tag.name == "img" and (fault := _fault_of_alt(tag)):
                missing = "no alternative text" in fault
                (wrong if missing and not allow_missing_alt else warned)[number].append(fault)
                if missing:
                    tag["alt"] = "a picture without a description"
            if "chart" in tag.get("class", []) and not tag.get("aria-label"):
                tag["aria-label"] = "a chart without a description"
                (warned if allow_missing_alt else wrong)[number].append(
                    "a chart has no title: plotly's title, or altair's title or description, is its alternative text"
                )
            if tag.name == "iframe" and not tag.get("src"):
                wrong[number].append("an iframe shows another page, which a deck does not have: link to it")
            if "mermaid" in tag.get("class", []):
                wrong[number].append("a mermaid diagram is drawn by a front end: show a picture of it")
            if tag.name == "a" and len(url := tag.get("href", "")) > 1 and url.startswith("#"):
                _link(soup, tag, unquote(url[1:]), warned[number])
    return str(soup)


def _embed(tag, url: str, folder: Path, attachments: dict, faults: list[str]) -> None:
    name = unquote(url).removeprefix("files/")
    if name.startswith("attachment:"):
        name = name.removeprefix("attachment:")
        if not (bundle := attachments.get(name)):
            faults.append(f"the attachment {name} is missing: paste or drop the picture into the cell again")
            tag["src"] = ""
            return
        form, data = next(iter(bundle.items()))
        data = base64.b64encode("".join(data).encode()).decode() if form == "image/svg+xml" and "<" in data else data
    elif not (path := folder / name.split("?")[0].split("#")[0]).is_file():
        faults.append(f"the file {name} is missing: looked for {path}")
        tag["src"] = ""
        return
    else:
        form = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        data = base64.b64encode(path.read_bytes()).decode()
    tag["src"] = f"data:{form};base64,{''.join(data).strip()}"


def _fault_of_alt(tag) -> str | None:
    alt = (tag.get("alt") or _NO_ALT).strip()
    shown = tag.get("src") or "a picture"
    shown = "a picture" if shown.startswith("data:") else shown[:60]
    if re.fullmatch(r"[\w.-]+\.(png|jpe?g|gif|svg|webp)|image", alt, re.I):
        return f"the alternative text {alt!r} of a picture is a file's name: write what the picture shows"
    if alt != _NO_ALT:
        return None
    if tag.find_parent(class_="figure"):
        return f"{shown} has no alternative text: show it with lecture_lib.notebook.show(fig, alt)"
    if tag.find_parent(class_="html"):
        return f'{shown} has no alternative text: give its <img> one, alt="what it shows"'
    return f"{shown} has no alternative text: write what it shows between the brackets, ![what it shows](file.png)"


def _link(soup, tag, target: str, said: list[str]) -> None:
    """Gives the heading that a link means its id, as Jupyter makes it of the words."""
    if soup.find(id=target) or (named := soup.find(attrs={"name": target})):
        if not soup.find(id=target):
            named["id"] = target
        return
    for heading in soup.find_all(_HEADINGS):
        if "-".join(heading.get_text().split()).lower() == "-".join(target.split()).lower():
            tag["href"] = f"#{heading.get('id') or target}"
            heading["id"] = heading.get("id") or target
            return
    del tag["href"]
    said.append(f"a link leads to #{target}, which no slide has")
