"""Slides in one HTML file: `jupyter nbconvert --to live_slides notebook.ipynb`; __main__.py makes all of a folder.

reveal.js, KaTeX and a host for the widgets are inlined, so that a deck opens from disk with no kernel and no network,
and its sliders work. What a notebook shows is in the deck, or the export says what is not, where, and what to do.

Embedded: pictures (files beside the notebook, attachments, outputs of any format), HTML, mathematics, widgets built on
anywidget, charts of plotly (by the script of its package) and altair (by vega, from npm; each only where it is used).
A notebook without slides in its metadata is cut at its headings. A slide too full for 1280 x 720 is scaled, split, or
scrolls.

Refused, with the cell's number:
- what the page would fetch: addresses of pictures and scripts, modules that import, maps, iframes;
- what only a front end can draw: bokeh, folium, mermaid, JavaScript outputs, widgets that need a kernel;
- a missing file, and a picture without alternative text, which allow_missing_alt makes a warning.

Warned of: a widget that needs a kernel but has its picture, table or progress saved; and what a browser finds when it
opens the deck, where there is one: slides that did not fit, with their size, mathematics that KaTeX cannot set, widgets
that failed, requests.

nbconvert's own options and preprocessors hold (--execute, --no-input, TagRemovePreprocessor): slides are cut after
them.
"""

import copy
import json
import re
import sys
import tomllib
from pathlib import Path

import nbformat
from jinja2 import pass_context
from nbconvert.exporters.html import HTMLExporter
from traitlets import Bool, default

from lecture_lib.slides.assets import AssetsError, browser_assets, scripts, styles
from lecture_lib.slides.cells import PLOTLY, STATE, hide, mark, saved_models, settle, slide_type, slides, views
from lecture_lib.slides.look import look
from lecture_lib.slides.page import Said, balanced, finish, markdown

__all__ = ["AssetsError", "LiveSlidesExporter", "SlidesError", "browser_assets", "talk"]

_UNREADABLE = (OSError, nbformat.reader.NotJSONError, nbformat.NBFormatError, nbformat.ValidationError)


class SlidesError(ValueError):
    """A notebook that cannot become a deck: the message names it, has a line for each cell, and says what to do."""


class LiveSlidesExporter(HTMLExporter):
    """Notebook to deck. Reads `slideshow.slide_type` in a cell's metadata, and the tags fold, guess, hide-output, half,
    and Jupyter Book's.

    Raises:
        SlidesError: what the module's own text calls refused.
        AssetsError: reveal.js and KaTeX are not there and could not be fetched.
    """

    export_from_notebook = "Live slides in one file"

    allow_missing_alt = Bool(help="Warn of pictures without alternative text, and do not refuse them.").tag(config=True)
    exclude_notes = Bool(help="Leave the speaker's notes out of the deck.").tag(config=True)
    check = Bool(True, help="Open the deck in Chromium, if there is one, and say what went wrong.").tag(config=True)

    @default("template_file")
    def _template_file_default(self):
        return "deck.html.j2"

    @default("extra_template_paths")
    def _extra_template_paths_default(self):
        return [str(Path(__file__).parent)]

    def default_filters(self):
        yield from super().default_filters()
        yield ("json_script", lambda data: json.dumps(data).replace("<", "\\u003c"))
        yield ("chart_alt", _chart_alt)
        yield ("balanced", balanced)

    @pass_context
    def markdown2html(self, context, source):
        return markdown(source, **self.lexer_options)

    def from_filename(self, filename, resources=None, **kw):
        try:
            return super().from_filename(filename, resources, **kw)
        except (SlidesError, AssetsError, *_UNREADABLE) as error:
            from nbconvert.nbconvertapp import NbConvertApp  # not above: it imports every exporter, this one too

            if NbConvertApp.initialized():  # on the command line the message is enough, without a traceback
                message = str(error) if isinstance(error, SlidesError | AssetsError) else f"{filename}: {error}"
                raise SystemExit(f"live_slides: {message}") from None
            raise

    def from_notebook_node(self, nb, resources=None, **kw):
        resources = self._init_resources(resources)
        name = resources["metadata"]["name"] or "notebook"
        nb = copy.deepcopy(nb)
        for number, cell in enumerate(nb.cells, 1):  # what a message calls a cell, whatever preprocessors take out
            cell.metadata.setdefault("number", number)
        if "widgets" in nb.metadata:
            nb.metadata.widgets = {STATE: {"state": saved_models(nb)}}  # as nbconvert expects it
        self._wrong, self._warned = Said(), Said()
        page, resources = super().from_notebook_node(nb, resources, **kw)
        attachments = {cell.metadata.number: cell.get("attachments", {}) for cell in nb.cells}
        folder = Path(resources["metadata"]["path"])
        page = finish(page, folder, attachments, self._wrong, self._warned, self.allow_missing_alt)
        self._refuse(name)
        page = page.replace("<!-- styles -->", styles(), 1)
        head, _, tail = page.rpartition("<!-- scripts -->")
        page = head + scripts(resources["models"], resources["charts"]) + tail
        if self.check:
            look(page, self._wrong, self._warned)
            self._refuse(name)
        for line in self._warned.lines():
            self.log.warning("live_slides: %s: %s", name, line)
        resources["warnings"] = self._warned.lines()
        return page, resources

    def _preprocess(self, nb, resources):
        nb, resources = super()._preprocess(nb, resources)
        nb, resources = hide(nb, resources)
        resources["title"] = _title(nb) or resources["metadata"]["name"] or "notebook"
        left_out = [cell for cell in nb.cells if slide_type(cell) == "skip"]
        resources["macros"] = "\n".join(macro for cell in left_out for macro in _macros(cell))
        if self.exclude_notes:
            nb.cells = [cell for cell in nb.cells if slide_type(cell) != "notes"]
        mark(nb)
        for cell in nb.cells:
            if cell.cell_type == "raw" and cell.metadata.get("raw_mimetype", "").lower() not in self.raw_mimetypes:
                self._warned[cell.metadata.number].append("a raw cell of another format is left out, as nbconvert does")
        if not nb.cells:
            self._wrong[0].append("no cell is shown: all are skipped, hidden, or there is none")
        resources["models"] = settle(nb, saved_models(nb), self._wrong, self._warned)
        forms = {form for cell in nb.cells for output in cell.get("outputs", []) for form in output.get("data", {})}
        charts = {"plotly": any(form == PLOTLY for form in forms), "vega": any(".vega" in form for form in forms)}
        resources["charts"] = {name for name, used in charts.items() if used}
        return nb, resources

    def _refuse(self, name: str) -> None:
        if lines := self._wrong.lines():
            raise SlidesError("\n  ".join([f"{name}: cannot become a deck that stands alone", *lines]))


# nbconvert imports every exporter before it reads its command line, which so learns two flags
if app := sys.modules.get("nbconvert.nbconvertapp"):
    for name in ("allow_missing_alt", "exclude_notes"):
        text = LiveSlidesExporter.class_traits()[name].help
        app.nbconvert_flags[name.replace("_", "-")] = ({"LiveSlidesExporter": {name: True}}, f"For live_slides. {text}")


def _chart_alt(output) -> str | None:
    """What a chart says of itself."""
    [(form, chart)] = output["data"].items()
    described = output.get("metadata", {}).get("alt") or output.get("metadata", {}).get(form, {}).get("alt")
    title = chart.get("layout", {}).get("title") if form == PLOTLY else chart.get("description") or chart.get("title")
    return described or (title.get("text") if isinstance(title, dict) else title)


def _macros(cell) -> list[str]:
    """The mathematics of a Markdown cell that defines macros: it holds for the slides, though the cell is left out."""
    if cell.cell_type != "markdown":
        return []
    found = re.findall(r"(\$\$?)(.*?)\1", cell.source, re.S)
    return [f"${text}$" for _, text in found if re.search(r"\\(re|provide)?newcommand|\\g?def\b|\\DeclareMath", text)]


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
        parts = [[cell for block in blocks for cell in block["cells"]] for slide in slides(nb) for blocks in slide]
        chosen = [[cell for cell in parts[0] if slide_type(cell) != "notes"]]
        for heading in headings:
            found = [slide for slide in parts if slide[0].source.partition("\n")[0].lstrip("#").strip() == heading]
            if len(found) != 1:
                raise SlidesError(f"talk.toml: {name} has {len(found)} slides with the heading {heading!r}, not one")
            chosen += found
        for k, slide in enumerate(chosen):
            slide[0].metadata.slideshow = {"slide_type": "subslide" if k else "slide", "seconds": _seconds(slide)}
        talk += chosen
        state |= {
            f"{name}-{key}": model for key, model in saved_models(nb).items()
        }  # other notebooks have the same ids
        for view in views(cell for slide in chosen for cell in slide):
            view["model_id"] = f"{name}-{view['model_id']}"
    cells = [cell for slide in talk for cell in slide]
    for number, cell in enumerate(cells):  # different notebooks may have cells of one id
        cell.id = f"talk-{number}"
    return nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {STATE: {"state": state}}})


def _seconds(slide) -> int:
    """What a slide of the talk takes: its notes at 130 words a minute, and time to predict or to move a slider."""
    words = sum(len(cell.source.split()) for cell in slide if slide_type(cell) == "notes")
    waits = any("**Predict" in cell.source for cell in slide) or any(views(slide))
    return max(10, round(60 * words / 130) + 20 * waits)


def _title(nb) -> str | None:
    """The text of the notebook's first heading."""
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    heading = re.search(r"^#+\s+(.+)", text, re.M)
    return heading and re.sub(r"[*_`$]", "", heading[1]).strip()
