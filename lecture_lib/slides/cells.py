"""From the cells of a notebook to slides: where each begins, and in which form each output is shown.

What of an output can be shown is decided here, before any page is made. A message names the cell by its number from
the top, counted from 1.
"""

import copy
import html
import json
import re

import nbformat
from bs4 import BeautifulSoup
from nbconvert.preprocessors import CoalesceStreamsPreprocessor, TagRemovePreprocessor

from lecture_lib.slides.page import Said, markdown

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
PLOTLY = "application/vnd.plotly.v1+json"
VEGA = re.compile(r"application/vnd\.vega(lite)?\.v\d+(\.\d+)?\+json")
# forms that need no front end, the richest first; a bundle's chart, which is drawn here, comes before them
_FORMS = ["text/html", "text/markdown", "text/latex", "image/svg+xml"]
_FORMS += [f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp", "avif", "bmp")]
_COMPANION = re.compile(r"text/plain|application/vnd\.(google\.colaboratory\.intrinsic|dataresource).*")
_MAP = re.compile("(scatter|choropleth|density)(geo|map|mapbox)|choropleth")  # of plotly
_INSTEAD = "show a picture of it, or tag the cell hide-output"
# our tags, and those of Jupyter Book
_TAGS = TagRemovePreprocessor(
    remove_cell_tags={"remove-cell", "hide-cell"},
    remove_input_tags={"fold", "solution", "remove-input", "hide-input"},
    remove_all_outputs_tags={"hide-output", "remove-output"},
)


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def slide_type(cell) -> str:
    return cell.metadata.get("slideshow", {}).get("slide_type") or "-"


def views(cells) -> list[dict]:
    """The views of widgets among the outputs of cells."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output["data"][VIEW] for output in outputs if VIEW in output.get("data", {})]


def saved_models(nb) -> dict:
    """The state of a notebook's widgets, by id; Colab leaves the key `state` out."""
    saved = nb.metadata.get("widgets", {}).get(STATE, {})
    models = saved.get("state", saved)
    return {key: model for key, model in models.items() if isinstance(model, dict) and "model_name" in model}


def hide(nb, resources):
    """Takes out what tags and Jupyter's own metadata hide, and makes one line of what overwrote itself."""
    for cell in nb.cells:
        jupyter = cell.metadata.get("jupyter", {})
        if jupyter.get("source_hidden") or cell.metadata.get("cellView") == "form":
            cell.metadata.transient = {"remove_source": True}
        if cell.cell_type != "code":
            continue
        if jupyter.get("outputs_hidden") and "guess" not in tags(cell):
            cell.outputs = []
        # `describes`: the words of a figure, which has them as its own
        cell.outputs = [
            output
            for output in cell.outputs
            if f"remove-{output.get('name')}" not in tags(cell)
            and not output.get("metadata", {}).get("text/html", {}).get("describes")
        ]
    for preprocessor in (_TAGS, CoalesceStreamsPreprocessor()):
        nb, resources = preprocessor.preprocess(nb, resources)
    return nb, resources


# ---- slides


def slides(nb) -> list[list[list[dict]]]:
    """The cells shown, as slides of subslides of blocks; a fragment, or a row of halves, is a block of many cells.

    A notebook that marks no slides is cut at its headings: the first and second level open a slide, the third a
    subslide.
    """
    cells = nb.cells
    if all(slide_type(cell) == "-" for cell in cells):
        cells = [piece for cell in cells for piece in _at_headings(cell)]
    found = []
    for cell in cells:
        kind = slide_type(cell)
        if kind == "skip":
            continue
        if kind == "slide" or not found:
            found.append([[]])
        elif kind == "subslide":
            found[-1].append([])
        blocks = found[-1][-1]
        row = "half" in tags(cell)
        if kind == "-" and blocks and blocks[-1]["row"] == row and (row or blocks[-1]["kind"] == "fragment"):
            blocks[-1]["cells"].append(cell)
        else:
            blocks.append({"kind": kind, "row": row, "cells": [cell]})
    return found


def _at_headings(cell) -> list:
    """A Markdown cell cut before each of its headings, which open slides; any other cell as it is.

    It is cut only where the parts show what the whole shows: not within code, a comment, or a block of HTML.
    """
    if cell.cell_type != "markdown":
        return [cell]
    source = cell.source
    named = "\n\n" + "\n".join(re.findall(r"^ {0,3}\[[^\]^]+\]:.*", source, re.M))  # addresses that links refer to
    found = re.finditer(r"^(?:(#{1,3})\s.*|\S.*\n(=|-)\2{2,}\s*$)", source, re.M)
    levels = {match.start(): len(match[1] or "") or "=-".index(match[2]) + 1 for match in found}
    whole = "".join(markdown(source).split())
    starts = [0]
    for start in levels:
        parts = markdown(source[:start] + named) + markdown(source[start:] + named)
        if start and "".join(parts.split()) == whole:
            starts.append(start)
    pieces = []
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        piece = copy.deepcopy(cell)
        piece.source = source[start:end].strip() + named.rstrip()
        if level := levels.get(start):
            piece.metadata.slideshow = {"slide_type": "subslide" if level == 3 else "slide"}
        pieces.append(piece)
    return pieces


def mark(nb) -> None:
    """Leaves the cells shown, each with the HTML that it opens and closes: the template goes through them in order."""
    cells = []
    for slide in slides(nb):
        for blocks in slide:
            for block in blocks:
                for cell in block["cells"]:
                    cell.metadata.opens, cell.metadata.closes = "", ""
                    cells.append(cell)
                if block["kind"] == "notes":
                    _wrap(block["cells"], '<aside class="notes">', "</aside>")
                elif block["row"] or block["kind"] == "fragment":
                    classes = ["row" if block["row"] else "column", "fragment" if block["kind"] == "fragment" else ""]
                    _wrap(block["cells"], f'<div class="{" ".join(classes).strip()}">', "</div>")
            shown = [cell for block in blocks for cell in block["cells"]]
            seconds = shown[0].metadata.get("slideshow", {}).get("seconds")
            _wrap(shown, f'<section data-timing="{seconds}">' if seconds else "<section>", "</section>")
        if len(slide) > 1:
            _wrap([cell for blocks in slide for block in blocks for cell in block["cells"]], "<section>", "</section>")
    nb.cells = cells


def _wrap(cells, opens: str, closes: str) -> None:
    cells[0].metadata.opens = opens + cells[0].metadata.opens
    cells[-1].metadata.closes += closes


# ---- outputs


def settle(nb, models: dict, wrong: Said, warned: Said) -> dict:
    """Leaves of each output the form that is shown; gives the models of the widgets that run in the deck, by id."""
    live = {}
    for cell in nb.cells:
        number, kept = cell.metadata.number, []
        for output in cell.get("outputs", []):
            for shown in _replaced(output, models, number, warned):
                if "data" in shown and not _choose(shown, models, number, wrong, warned):
                    continue
                kept.append(shown)
                if (view := shown.get("data", {}).get(VIEW)) is not None:
                    model = models[view["model_id"]]
                    live[view["model_id"]] = {"state": model["state"], "buffers": model.get("buffers", [])}
        if cell.cell_type == "code":
            cell.outputs = kept
    return live


def _replaced(output, models: dict, number: int, warned: Said) -> list:
    """An output, or what was saved of a widget that needs a kernel."""
    view = output.get("data", {}).get(VIEW)
    if view is None or models.get(key := view.get("model_id"), {}).get("model_module") == "anywidget":
        return [output]
    rest = {form: content for form, content in output["data"].items() if form != VIEW}
    bar = re.search(r"\d+%\|.*\|", "".join(rest.get("text/plain", "")))  # of tqdm, whose state is seldom saved
    left_out = set()
    found = _static(models, key, left_out)
    if not found and (bar or any(form in rest for form in _FORMS)):
        found, left_out = [{**output, "data": rest}], set()
    if not found:
        return [output]
    name = models.get(key, {}).get("model_name", "widget")
    less = f", without {', '.join(sorted(left_out))}" if left_out else ""
    warned[number].append(f"the {name} needs a kernel, and slides have none: what was saved of it is shown{less}")
    return [nbformat.from_dict(one) for one in found]


def _static(models: dict, key: str, left_out: set, above: tuple = ()) -> list:
    """Pictures, tables and text in a widget of ipywidgets and those within it; a progress bar is one line.

    What shows nothing so is added to `left_out`, by name.
    """
    model = models.get(key, {"model_name": "", "state": {}})
    name, state = model["model_name"], model["state"]
    if model.get("model_module") == "anywidget":
        return [{"output_type": "display_data", "data": {VIEW: {"model_id": key}}, "metadata": {}}]
    within = [child.removeprefix("IPY_MODEL_") for child in state.get("children") or []]
    if any(models.get(child, {}).get("model_name") == "FloatProgressModel" for child in within):
        words = [models[child]["state"].get("value", "") for child in within if child in models]
        words = [html.unescape(re.sub(r"<[^>]+>", "", word)).strip() for word in words if isinstance(word, str)]
        return [{"output_type": "stream", "name": "stderr", "text": " ".join(filter(None, words))}]
    if name == "OutputModel":
        inner = [(output, output.get("data", {}).get(VIEW)) for output in state.get("outputs") or []]
        within = [view.get("model_id") for _, view in inner if view]
        found = {child: _static(models, child, left_out, (*above, key)) for child in within if child not in above}
        return [one for output, view in inner for one in (found.get(view.get("model_id"), []) if view else [output])]
    if name == "ImageModel" and (buffers := model.get("buffers")):
        form = f"image/{state.get('format', 'png')}"
        return [{"output_type": "display_data", "data": {form: buffers[0]["data"]}, "metadata": {}}]
    if isinstance(value := state.get("value"), str) and value.strip():
        form = "text/html" if name.startswith("HTML") else "text/plain"
        return [{"output_type": "display_data", "data": {form: value}, "metadata": {}}]
    if not within and name:
        left_out.add(name)
    return [one for child in within if child not in above for one in _static(models, child, left_out, (*above, key))]


def _choose(output, models: dict, number: int, wrong: Said, warned: Said) -> bool:
    """Leaves the richest form that a page without a kernel can show; False where there is none, which is said."""
    data = output["data"]
    for form in data:  # JSON of nbformat may have text in lines
        if isinstance(data[form], list) and not form.endswith("json"):
            data[form] = "".join(data[form])
    data = {form: content for form, content in data.items() if content != ""}
    if not data:
        return False  # it shows nothing in Jupyter, either
    if VIEW in data:
        output["data"] = {VIEW: data[VIEW]}
        fault = _widget_fault(data[VIEW], models)
        if fault:
            wrong[number].append(fault)
        return not fault
    if chart := _chart_in(data.get("text/html", "")):
        data.update(chart)
    fault, shown = None, next((form for form in data if form == PLOTLY or VEGA.fullmatch(form)), None)
    if shown:
        fault = _chart_fault(shown, data[shown])
        if shown == PLOTLY and re.search(r'"(?:text|title)": "[^"]*\$[^"$]+\$', json.dumps(data[shown].get("layout"))):
            warned[number].append("the mathematics in a chart of plotly is shown as its source")
    elif shown := next((form for form in _FORMS if form in data), None):
        fault = _html_fault(BeautifulSoup(data[shown], "html.parser"), data) if shown == "text/html" else None
    else:
        shown = "text/plain"
        drawn = [kind for kind in data if not _COMPANION.fullmatch(kind)]
        if drawn == ["application/json"]:
            data[shown] = json.dumps(data["application/json"], indent=1, ensure_ascii=False)
        elif drawn:
            fault = f"an output is {drawn[0]}, which only a front end can draw: {_INSTEAD}"
    if fault:
        wrong[number].append(fault)
        return False
    output["data"] = {shown: data[shown]}
    return True


def _widget_fault(view: dict, models: dict) -> str | None:
    """Why a widget would not run in a deck; None where it runs."""
    model = models.get(view.get("model_id"))
    if model is None:
        return "a widget has no saved state: execute the notebook with nbclient, or have JupyterLab save widget state"
    if model["model_module"] != "anywidget":
        return (
            f"the widget {model['model_name']} needs a kernel, and slides have none: "
            "show one from lecture_lib.widgets, or tag its cell hide-output"
        )
    code, css = model["state"].get("_esm", ""), model["state"].get("_css", "")
    if where := fetched_by(code):
        return f"a widget would import {where}: bundle it into _esm"
    if where := re.search(r"""@import[^;]*|url\(\s*['"]?(?:https?:)?//[^)]*|^\s*https?://\S+\s*$""", css):
        return f"the style of a widget would fetch {where[0].strip()[:100]}: embed it in _css"
    return None


_IMPORT = re.compile(
    r"""(?:^|[;}\s])(?:import|export)\s*(?:[\w*{][^"'`;()]*?\bfrom\s*)?["'](?!data:|blob:)([^"'\n]+)["']"""
    r"""|\bimport\s*\(\s*["'`](?!data:|blob:)([^"'`\n]+)["'`]""",
    re.M,
)


def fetched_by(code: str) -> str | None:
    """What a module would import, which from within a page can only be an address; or the address that it is."""
    if re.match(r"\s*https?://\S+\s*$", code):
        return code.strip()
    code = re.sub(r"/\*.*?\*/|^\s*//.*?$", "", code, flags=re.S | re.M)
    found = _IMPORT.search(code)
    return found and (found[1] or found[2])


def _chart_in(page: str) -> dict:
    """The chart in the HTML by which altair, or plotly in Colab, has a chart drawn from the network; else nothing."""
    decode = json.JSONDecoder().raw_decode
    try:
        if "vegaEmbed" in page and (call := re.search(r"\}\)\((?=\{)", page)):
            spec, _ = decode(page, call.end())
            version = re.search(r"vega-lite/v(\d+)", spec.get("$schema", ""))
            return {f"application/vnd.vegalite.v{version[1]}+json": spec} if version else {}
        if call := re.search(r"""Plotly\.newPlot\(\s*["'][^"']+["'],\s*(?=\[)""", page):
            data, end = decode(page, call.end())
            chart = {"data": data, "layout": decode(page, page.index("{", end))[0]}
            if frames := re.search(r"""Plotly\.addFrames\(\s*["'][^"']+["'],\s*(?=\[)""", page):
                chart["frames"], _ = decode(page, frames.end())
            return {PLOTLY: chart}
    except ValueError:  # not JSON after all
        pass
    return {}


def _chart_fault(form: str, chart: dict) -> str | None:
    """What a chart would ask of the network: data or pictures by address, the tiles and outlines of maps."""
    kinds = {trace.get("type", "") for trace in chart.get("data", [])} if form == PLOTLY else set()
    if maps := [kind for kind in sorted(kinds) if _MAP.fullmatch(kind)]:
        return f"plotly draws {maps[0]} with maps from the network: show a picture of it"
    if urls := re.findall(r'"(?:url|source)": "(?!data:)([^" ]*[/.][^" ]*)"', json.dumps(chart)):
        return f"a chart would fetch {urls[0][:100]}: give it the data itself"
    return None


def _html_fault(page: BeautifulSoup, data: dict) -> str | None:
    """Why a page without network and front end shows nothing of some HTML; None where it shows it."""
    if page.find("iframe"):
        return "an iframe shows another page, which a deck does not have: link to it, or show a picture of it"
    for script in page.find_all("script", src=False):
        code = script.string or ""
        asks = re.search(r"""\brequire(?:js|\.config)?\s*\(|\bBokeh\b|https?://[^"'\s]+\.(?:m?js|json|csv)\b""", code)
        if where := (asks and asks[0]) or fetched_by(code):
            return f"a script asks a front end or the network for {where[:100]}: {_INSTEAD}"
    visible = page.find(["img", "svg", "canvas", "video", "audio", "table", "hr", "input", "button", "script", "math"])
    for hidden in page.find_all(["style", "template"]):
        hidden.extract()
    if visible or page.get_text(strip=True) or not page.find(id=True):
        return None
    if others := [form for form in data if form not in ("text/html", "text/plain")]:
        return f"an output is {others[0]}, which only a front end can draw: {_INSTEAD}"
    return f"an output is HTML that shows nothing without a front end: {_INSTEAD}"
