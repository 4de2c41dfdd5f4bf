"""Slides in one HTML file: `jupyter nbconvert --to live_slides notebook.ipynb`; __main__.py makes all of a folder.

reveal.js, KaTeX and a host for the widgets are inlined, so that a deck opens from disk with no kernel and no network,
and its sliders work. A deck that would fetch anything, or show a figure without alternative text, is refused.
"""

import copy
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import nbformat
from jinja2 import pass_context
from nbconvert.exporters.html import HTMLExporter
from traitlets import default

from lecture_lib.slides.assets import AssetsError, browser_assets, scripts, styles

__all__ = ["AssetsError", "LiveSlidesExporter", "SlidesError", "browser_assets", "talk"]

_VIEW = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"
_NO_ALT = "No description has been provided for this image"  # nbconvert's stopgap


class SlidesError(ValueError):
    """A notebook that cannot become a deck: the message names the notebook and says what to do."""


class LiveSlidesExporter(HTMLExporter):
    """Notebook to deck. Reads `slideshow.slide_type` in a cell's metadata, and the tags fold, guess, hide-output, half.

    Raises:
        SlidesError: a widget without saved state or one that needs a kernel, a figure without alternative text, or
            anything that the page would fetch.
        AssetsError: reveal.js and KaTeX are not there and could not be fetched.
    """

    export_from_notebook = "Live slides in one file"

    @default("template_file")
    def _template_file_default(self):
        return "deck.html.j2"

    @default("extra_template_paths")
    def _extra_template_paths_default(self):
        return [str(Path(__file__).parent)]

    @default("exclude_anchor_links")
    def _exclude_anchor_links_default(self):
        return True

    @default("embed_images")
    def _embed_images_default(self):
        return True

    @pass_context
    def markdown2html(self, context, source):
        # nbconvert parses each piece of HTML alone, and so ends <details> before its answer; a comment passes as it is
        source = re.sub(r"^(<details>.*|</details>)$", r"<!--\1-->", source, flags=re.M)
        return re.sub(r"<!--(</?details>.*?)-->", r"\1", super().markdown2html(context, source))

    def from_filename(self, filename, resources=None, **kw):
        try:
            return super().from_filename(filename, resources, **kw)
        except (SlidesError, AssetsError) as error:
            from nbconvert.nbconvertapp import NbConvertApp  # not above: it imports every exporter, this one too

            if NbConvertApp.initialized():  # on the command line the message is enough, without a traceback
                raise SystemExit(f"live_slides: {error}") from None
            raise

    def from_notebook_node(self, nb, resources=None, **kw):
        resources = self._init_resources(resources)
        name = resources["metadata"]["name"] or "notebook"
        nb = copy.deepcopy(nb)
        for number, cell in enumerate(nb.cells, 1):  # what a message calls a cell, whatever preprocessors take out
            cell.metadata.setdefault("number", number)
        resources["slides"], resources["title"] = _slides(nb), _title(nb) or name
        models = _models(nb, resources["slides"], name)
        page, resources = super().from_notebook_node(nb, resources, **kw)
        if faults := _Faults(page).found:
            raise SlidesError("\n  ".join([f"{name}: cannot become a deck that stands alone", *faults]))
        page = page.replace("<!-- styles -->", styles(), 1)
        head, _, tail = page.rpartition("<!-- scripts -->")
        return head + scripts(models) + tail, resources


def talk(folder: Path) -> nbformat.NotebookNode:
    """One notebook of the slides that `talk.toml` of a folder of notebooks names, for the deck of a whole talk.

    talk.toml has the opening slide, as Markdown, and for each notebook the headings of the slides taken. Before them
    comes the notebook's title slide, without its notes, which are for readers. The pace that the speaker's window shows
    follows from what there is to say and to do on a slide.

    Raises:
        SlidesError: a notebook is not there, or has not exactly one slide of a heading.
    """
    order = tomllib.loads((folder / "talk.toml").read_text("utf-8"))
    opening = nbformat.v4.new_markdown_cell(order["opening"], metadata={"slideshow": {"seconds": 10}})
    talk, state = [[opening]], {}
    for name, headings in order["slides"].items():
        if not (path := folder / f"{name}.ipynb").exists():
            raise SlidesError(f"talk.toml: there is no notebook {name}")
        nb = nbformat.read(path, 4)
        slides = [[cell for block in blocks for cell in block["cells"]] for slide in _slides(nb) for blocks in slide]
        chosen = [[cell for cell in slides[0] if not _is_notes(cell)]]
        for heading in headings:
            found = [slide for slide in slides if slide[0].source.partition("\n")[0].strip() == f"## {heading}"]
            if len(found) != 1:
                raise SlidesError(f"talk.toml: {name} has {len(found)} slides with the heading {heading!r}, not one")
            chosen += found
        for k, slide in enumerate(chosen):
            slide[0].metadata.slideshow = {"slide_type": "subslide" if k else "slide", "seconds": _seconds(slide)}
        talk += chosen
        saved = nb.metadata.get("widgets", {}).get(_STATE, {}).get("state", {})
        state |= {f"{name}-{key}": model for key, model in saved.items()}  # other notebooks have the same ids
        for view in _views(cell for slide in chosen for cell in slide):
            view["model_id"] = f"{name}-{view['model_id']}"
    cells = [cell for slide in talk for cell in slide]
    for number, cell in enumerate(cells):  # different notebooks may have cells of one id
        cell.id = f"talk-{number}"
    return nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {_STATE: {"state": state}}})


def _seconds(slide) -> int:
    """What a slide of the talk takes: its notes at 130 words a minute, and time to predict or to move a slider."""
    words = sum(len(cell.source.split()) for cell in slide if _is_notes(cell))
    waits = any("**Predict" in cell.source for cell in slide) or any(_views(slide))
    return max(10, round(60 * words / 130) + 20 * waits)


def _is_notes(cell) -> bool:
    return cell.metadata.get("slideshow", {}).get("slide_type") == "notes"


def _slides(nb) -> list[list[list[dict]]]:
    """The cells shown, as slides of subslides of blocks; a fragment, or a row of halves, is a block of many cells."""
    slides = []
    for cell in nb.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type") or "-"
        if kind == "skip" or cell.cell_type == "raw":
            continue
        if kind == "slide" or not slides:
            slides.append([[]])
        elif kind == "subslide":
            slides[-1].append([])
        blocks = slides[-1][-1]
        row = "half" in cell.metadata.get("tags", [])
        if kind == "-" and blocks and blocks[-1]["row"] == row and (row or blocks[-1]["kind"] == "fragment"):
            blocks[-1]["cells"].append(cell)
        else:
            blocks.append({"kind": kind, "row": row, "cells": [cell]})
    return slides


def _title(nb) -> str | None:
    """The text of the notebook's first heading."""
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    heading = re.search(r"^#+\s+(.+)", text, re.M)
    return heading and re.sub(r"[*_`$]", "", heading[1]).strip()


def _models(nb, slides, name: str) -> dict:
    """The saved models of the widgets shown, by id."""
    saved = nb.metadata.get("widgets", {}).get(_STATE, {}).get("state", {})
    cells = [cell for slide in slides for blocks in slide for block in blocks for cell in block["cells"]]
    shown = [cell for cell in cells if "hide-output" not in cell.metadata.get("tags", [])]
    models = {}
    for view in _views(shown):
        if (key := view["model_id"]) not in saved:
            raise SlidesError(
                f"{name}: a widget has no saved state: execute the notebook with `make notebooks` (or with nbclient)"
            )
        if saved[key]["model_module"] != "anywidget":
            raise SlidesError(
                f"{name}: the widget {saved[key]['model_name']} needs a kernel, and slides have none: "
                "show one from lecture_lib.widgets, or tag its cell hide-output"
            )
        models[key] = {"state": saved[key]["state"], "buffers": saved[key].get("buffers", [])}
    return models


def _views(cells) -> list[dict]:
    """The views of widgets among the outputs of cells."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output["data"][_VIEW] for output in outputs if _VIEW in output.get("data", {})]


class _Faults(HTMLParser):
    """What would make a page fetch something, and images that say nothing to those who do not see them."""

    def __init__(self, page: str):
        super().__init__()
        self.found, self.in_style = [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.in_style = tag == "style"
        self._look_at_css(attributes.get("style") or "")
        for key in ("src", "srcset", "poster", "data", "href", "xlink:href"):
            url = (attributes.get(key) or "").strip()
            if url and not url.startswith(("data:", "#")) and not (tag == "a" and key == "href"):
                self.found.append(f"<{tag}> would fetch {url[:100]}: embed it")
        if tag == "img" and (attributes.get("alt") or _NO_ALT).strip() == _NO_ALT:
            where = (attributes.get("src") or "")[:30]
            self.found.append(f"an image has no alternative text ({where}...): show it with notebook.show(fig, alt)")

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        self.in_style = False

    def handle_data(self, data):
        if self.in_style:
            self._look_at_css(data)

    def _look_at_css(self, css):
        for url in re.findall(r"""url\(\s*['"]?(?!data:|#|['"])([^)'"]+)|(@import[^;]*)""", css):
            self.found.append(f"a style would fetch {''.join(url)[:100]}: embed it")
