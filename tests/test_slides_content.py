"""What a notebook of anybody's shows is in its deck, or the export says what is not, and where."""

import base64
import contextlib
import re
import subprocess
import sys

import altair
import nbformat
import plotly.graph_objects
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from traitlets.config import Config

import lecture_lib.slides as slides_module
from lecture_lib.slides import LiveSlidesExporter, SlidesError, __main__, handout
from lecture_lib.slides.cells import STATE, VIEW, fetched_by
from tests.test_slides import PNG

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
GIF = "R0lGODlhAQABAAAAACw="


def export(*cells, metadata=None, path="", **options):
    """The deck of some cells, as soup, and its warnings."""
    notebook = new_notebook(cells=list(cells), metadata=metadata or {})
    resources = {"metadata": {"name": "deck", "path": str(path)}}
    page, resources = LiveSlidesExporter(check=False, **options).from_notebook_node(notebook, resources=resources)
    return BeautifulSoup(page, "html.parser"), resources["warnings"]


def slides(soup):
    return soup.select_one(".slides")


def shown(*bundles, metadata=None, **cell_metadata):
    outputs = [new_output("display_data", data, metadata=metadata or {}) for data in bundles]
    return new_code_cell("shown()", outputs=outputs, metadata=cell_metadata)


def printed(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def widgets(**models):
    """The metadata of saved widgets; `id=(model, state)`."""
    modules = {"AnyModel": "anywidget", "OutputModel": "@jupyter-widgets/output"}
    saved = {
        key: {"model_module": modules.get(name, "@jupyter-widgets/controls"), "model_name": name, "state": state}
        for key, (name, state) in models.items()
    }
    return {"widgets": {STATE: {"state": saved}}}


def refused(*cells, **options):
    with pytest.raises(SlidesError) as error:
        export(*cells, **options)
    return str(error.value).splitlines()[1:]


# ---- what Jupyter renders


@pytest.mark.parametrize("source", ["![a square](attachment:a.png)", '<img src="attachment:a.png" alt="a square">'])
def test_attachments_are_embedded(source):
    soup, _ = export(new_markdown_cell(source, attachments={"a.png": {"image/png": PNG}}))
    assert slides(soup).img["src"] == f"data:image/png;base64,{PNG}"


def test_files_beside_the_notebook_are_embedded(tmp_path):
    (tmp_path / "my pictures").mkdir()
    (tmp_path / "my pictures/a.svg").write_text(SVG)
    source = '![one](my%20pictures/a.svg) and <b><img src="my pictures/a.svg" alt="two"></b>'
    soup, _ = export(new_markdown_cell(source), path=tmp_path)
    data = f"data:image/svg+xml;base64,{base64.b64encode(SVG.encode()).decode()}"
    assert [image["src"] for image in slides(soup)("img")] == [data, data]


@pytest.mark.parametrize(
    ("form", "content"), [("image/svg+xml", SVG), ("image/gif", GIF), ("image/webp", GIF), ("image/jpeg", PNG)]
)
def test_pictures_of_all_formats_are_shown(form, content):
    soup, _ = export(shown({form: content, "text/plain": "<Figure>"}, metadata={form: {"alt": "a dot"}}))
    image = slides(soup).img
    assert image["src"].startswith(f"data:{form};base64,") and image["alt"] == "a dot"
    assert "<Figure>" not in slides(soup).text


def test_html_within_markdown_keeps_its_content():
    box, more = '<div class="box">in <i>a box</i></div>', "<details><summary>more</summary>"
    source = "\n\n".join(["H<sub>2</sub>O", box, more, "*inside*", "</details>"])
    deck = slides(export(new_markdown_cell(source))[0])
    assert (
        deck.sub.text == "2"
        and deck.select_one(".box i").text == "a box"
        and deck.select_one("details em").text == "inside"
    )


def test_a_progress_bar_is_one_line_and_colours_of_a_terminal_stay():
    outputs = [printed(f"\r{k}%|...", "stderr") for k in range(101)] + [
        printed("\n", "stderr"),
        printed("\x1b[31mred\x1b[0m"),
    ]
    deck = slides(export(new_code_cell("run()", outputs=outputs))[0])
    assert [pre.text.strip() for pre in deck.select("pre.output")] == ["100%|...", "red"]
    assert deck.select_one(".ansi-red-fg").text == "red"


def test_what_jupyter_folds_is_folded():
    cells = [
        new_code_cell("secret = 1", outputs=[printed("seen")], metadata={"jupyter": {"source_hidden": True}}),
        new_code_cell("secret = 2", metadata={"cellView": "form"}),
        new_code_cell("visible = 1", outputs=[printed("secret")], metadata={"jupyter": {"outputs_hidden": True}}),
    ]
    text = slides(export(*cells)[0]).text
    assert "seen" in text and "visible" in text and "secret" not in text


def test_raw_cells_are_those_of_nbconvert():
    cells = [new_raw_cell(f"<b>{kind}</b>", metadata={"raw_mimetype": kind}) for kind in ("text/html", "text/latex")]
    soup, warnings = export(*cells)
    assert [bold.text for bold in slides(soup)("b")] == ["text/html"]
    assert warnings == ["cell 2: a raw cell of another format is left out, as nbconvert does"]


def test_json_is_printed_and_the_richest_form_is_chosen():
    deck = slides(export(shown({"application/json": {"a": [1]}}, {"text/html": "<i>x</i>", "text/plain": "plain"}))[0])
    assert '"a"' in deck.pre.text or '"a"' in deck.select_one("pre.output").text
    assert deck.i.text == "x" and "plain" not in deck.text


@pytest.mark.parametrize(
    "broken", ["<p>text</p></div>", "text <!-- never closed", "<div><b>open", "<style>b {}", "</section></main>"]
)
def test_html_that_is_not_whole_harms_no_other_cell(broken):
    cells = [new_markdown_cell("## A"), new_markdown_cell(broken), shown({"text/html": broken}), new_raw_cell(broken)]
    deck = slides(export(*cells, new_markdown_cell("## B\n\nrest"))[0])
    assert [part.h2.text for part in deck("section", recursive=False)] == ["A", "B"] and "rest" in deck.text


def test_formulas_in_html_keep_what_follows():
    source = "<div>If $i<n$ then TAIL</div>\n\n<table><tr><td>$a<b$</td><td>$5</td><td>$6</td></tr></table>"
    deck = slides(export(new_markdown_cell(source))[0])
    assert "$i<n$ then TAIL" in deck.text and [cell.text for cell in deck("td")] == ["$a<b$", "$5", "$6"]


def test_tables_are_those_of_jupyter():
    source = "| a | b |\n|---|:--|\n| $P(A|B)$ | $|x|$ |\n| only |\n| 1 | 2 | 3 |\n\n```\n| $P(A|B)$ |\n|---|\n```"
    deck = slides(export(new_markdown_cell(source))[0])
    rows = [[cell.text for cell in row("td")] for row in deck.tbody("tr")]
    assert rows == [[r"$P(A\vert B)$", r"$\vert x\vert $"], ["only", ""], ["1", "2"]]
    assert "| $P(A|B)$ |" in deck.pre.text


def test_errors_without_a_traceback_and_widths_in_percent():
    error = new_output("error", ename="E", evalue="why", traceback=[])
    picture = new_output("display_data", {"image/png": PNG}, metadata={"image/png": {"alt": "a dot", "width": "50%"}})
    nothing = new_output("display_data", {"text/html": "", "text/plain": ""})
    deck = slides(export(new_code_cell("x", outputs=[error, picture, nothing]))[0])
    assert deck.select_one("pre.output").text == "E: why" and deck.img["style"] == "max-width: 50%"
    bundle = {"application/javascript": "1", "text/html": "", "text/plain": ""}
    assert "only a front end can draw" in refused(shown(bundle))[0]


# ---- nbconvert's options, Jupyter Book's tags


def test_nbconvert_s_own_options_hold():
    cells = [
        new_markdown_cell("words"),
        new_code_cell("a = 'source'", outputs=[printed("output")], metadata={"tags": ["mine"]}),
    ]
    assert "source" not in slides(export(*cells, exclude_input=True)[0]).text
    assert "output" not in slides(export(*cells, exclude_output=True)[0]).text
    assert "words" not in slides(export(*cells, exclude_markdown=True)[0]).text
    config = {"TagRemovePreprocessor": {"enabled": True, "remove_input_tags": {"mine"}}}
    text = slides(export(*cells, config=Config(config))[0]).text
    assert "output" in text and "source" not in text


@pytest.mark.parametrize(
    ("tag", "left"),
    [
        ("hide-input", "output"),
        ("remove-input", "output"),
        ("hide-output", "source"),
        ("remove-output", "source"),
        ("remove-stdout", "source"),
        ("remove-stderr", "source output"),
        ("hide-cell", ""),
        ("remove-cell", ""),
    ],
)
def test_tags_of_jupyter_book_hold(tag, left):
    cells = [new_markdown_cell("# A"), new_code_cell("source", outputs=[printed("output")], metadata={"tags": [tag]})]
    assert slides(export(*cells)[0]).text.split()[1:] == left.split()


def test_slides_are_cut_after_preprocessors_ran():
    slide = {"slideshow": {"slide_type": "slide"}}
    cells = [
        new_markdown_cell("# One", metadata=slide),
        new_markdown_cell("# Gone", metadata={**slide, "tags": ["remove-cell"]}),
        new_markdown_cell("# Three", metadata=slide),
    ]
    soup, _ = export(*cells)
    assert [section.text.strip() for section in slides(soup)("section")] == ["One", "Three"]
    assert [cell["data-cell"] for cell in soup.select("[data-cell]")] == ["1", "3"], "numbers are those of the notebook"


def test_a_notebook_without_slides_is_cut_at_its_headings():
    cells = [
        new_markdown_cell("# Title\n\nintroduction\n\n## Part\n\n```\n# a comment\n```\n\n### Within"),
        new_code_cell("1"),
        new_markdown_cell("#### no slide of its own"),
    ]
    deck = slides(export(*cells)[0])
    assert [[part.name for part in slide("section")] for slide in deck("section", recursive=False)] == [
        [],
        ["section"] * 2,
    ]
    assert deck("section")[-1].h4 is not None and "a comment" in deck("section")[-2].text


@pytest.mark.parametrize(
    "within",
    [
        "<!-- old\n\n## hidden\n\nsecret -->",
        "<center>\n\n## Big\n\n</center>",
        "<details><summary>more</summary>\n\n## Answer\n\n</details>",
        "````md\n```python\n# in\n```\n# in\n````",
        "~~~\n```\n# in\n~~~",
    ],
)
def test_headings_within_a_block_cut_nothing(within):
    deck = slides(export(new_markdown_cell(f"# A\n\n{within}\n\nrest\n\n## [B][1]\n\n[1]: https://a.b"))[0])
    first, second = deck("section", recursive=False)
    assert "rest" in first.text and "secret" not in first.text and second.a["href"] == "https://a.b"


def test_underlined_headings_cut_as_well():
    source = "Title\n=====\n\ntext\n\nPart\n----\n\n| a |\n|---|\n| b |"
    parts = slides(export(new_markdown_cell(source))[0])("section")
    assert [part.find(["h1", "h2"]).text for part in parts] == ["Title", "Part"] and parts[1].td.text == "b"


@pytest.mark.parametrize("cells", [[], [new_markdown_cell("# A", metadata={"slideshow": {"slide_type": "skip"}})]])
def test_a_notebook_that_shows_nothing_is_refused(cells):
    assert refused(*cells) == ["  no cell is shown: all are skipped, hidden, or there is none"]


def test_notes_can_be_left_out():
    cells = [new_markdown_cell("# A"), new_markdown_cell("said", metadata={"slideshow": {"slide_type": "notes"}})]
    assert "said" in slides(export(*cells)[0]).text
    assert "said" not in slides(export(*cells, exclude_notes=True)[0]).text


# ---- what is fetched, or needs a front end

PLOT = plotly.graph_objects.Figure(plotly.graph_objects.Bar(y=[1, 2]), layout={"title": {"text": "two bars"}})
CHART = altair.Chart(altair.Data(values=[{"a": 1}]), title="one <dot>").mark_point().encode(x="a:Q")


def test_charts_of_plotly_and_altair_are_in_the_deck_and_their_scripts_only_there():
    plot = shown({"application/vnd.plotly.v1+json": PLOT.to_plotly_json(), "text/html": "<div></div>"})
    vega = shown({"application/vnd.vegalite.v6+json": CHART.to_dict(), "text/plain": "alt.Chart"})
    by_network = shown(CHART._repr_mimebundle_())
    in_colab = shown({"text/html": PLOT.to_html(include_plotlyjs=False, full_html=False)})
    soups = [export(cell)[0] for cell in (plot, vega, by_network, in_colab, new_markdown_cell("# none"))]
    heat = {"data": [{"type": "heatmap", "z": [[1]]}], "layout": {"title": {"text": "heat of $x$"}}}
    assert export(shown({"application/vnd.plotly.v1+json": heat}))[1] == [
        "cell 1: the mathematics in a chart of plotly is shown as its source"
    ]
    charts = [soup.select_one(".chart") for soup in soups]
    assert [chart and chart["data-chart"] for chart in charts] == ["plotly", "vega", "vega", "plotly", None]
    assert charts[0]["aria-label"] == charts[3]["aria-label"] == "two bars" and charts[1]["aria-label"] == "one <dot>"
    assert [sum(len(script.text) > 4e6 for script in soup("script")) for soup in soups] == [1, 0, 0, 1, 0]
    assert ["vegaEmbed" in str(soup("script")[-2]) for soup in soups] == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("bundle", "part"),
    [
        (
            {"application/vnd.vegalite.v6+json": {"data": {"url": "cars.json"}, "title": "t"}},
            "a chart would fetch cars.json",
        ),
        ({"application/vnd.plotly.v1+json": {"data": [{"type": "choropleth"}], "layout": {}}}, "maps from the network"),
        ({"application/vnd.plotly.v1+json": {"data": [], "layout": {}}}, "a chart has no title"),
        (
            {"application/vnd.plotly.v1+json": {"data": [], "layout": {"images": [{"source": "https://a.b/c.png"}]}}},
            "a chart would fetch https://a.b/c.png",
        ),
        ({"application/javascript": "1", "application/vnd.bokehjs_exec.v0+json": ""}, "only a front end can draw"),
        ({"text/html": '<div id="p1" data-root-id="p2"></div>'}, "shows nothing without a front end"),
        ({"text/html": "<script>require(['d3'], f)</script>"}, "a script asks a front end or the network for require("),
        ({"text/html": "<div id='a'></div><script type='module'>import 'https://a.b/d3'</script>"}, "https://a.b/d3"),
        ({"text/html": "<script>fetch('https://a.b/c.json')</script>"}, "https://a.b/c.json"),
        ({"text/html": '<iframe srcdoc="a map"></iframe>', "text/plain": "<Map>"}, "an iframe shows another page"),
        ({"application/geo+json": {}, "text/plain": "<GeoJSON>"}, "application/geo+json, which only a front end"),
        ({"application/javascript": "1", "text/plain": "<Javascript>"}, "application/javascript, which only"),
        ({"text/html": '<svg><image xlink:href="https://a.b/c.png"/></svg>'}, "<image> would fetch https://a.b/c.png"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_cell(bundle, part):
    [line] = refused(new_markdown_cell("# Before"), shown(bundle))
    assert line.startswith("  cell 2: ") and part in line


def test_a_mermaid_diagram_is_refused():
    assert "mermaid" in refused(new_markdown_cell("```mermaid\ngraph LR\n```"))[0]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('import * as d3 from "https://esm.sh/d3"', "https://esm.sh/d3"),
        ("import{a,b}from'./kit.js';", "./kit.js"),
        ('import "d3";', "d3"),
        ('export { x } from "d3"', "d3"),
        ('const d3 = await import("https://esm.sh/d3")', "https://esm.sh/d3"),
        ("https://unpkg.com/widget.js", "https://unpkg.com/widget.js"),
        ('// import a from "b"\nexport default { render() { return "import x from y" } }', None),
        ("const text = \"from 'here'\"; export const important = 1", None),
        ('import { a } from "data:text/javascript,export const a = 1"', None),
    ],
)
def test_imports_of_a_widget_are_found(code, found):
    assert fetched_by(code) == found


def test_an_iframe_in_markdown_is_refused():
    assert "iframe" in refused(new_markdown_cell('<iframe srcdoc="a map"></iframe>'))[0]


def test_a_widget_that_imports_is_refused():
    css = {"_esm": "export default {}", "_css": "@import url(https://a.b/c.css);"}
    assert "would fetch @import" in refused(shown({VIEW: {"model_id": "w"}}), metadata=widgets(w=("AnyModel", css)))[0]
    [line] = refused(shown({VIEW: {"model_id": "w"}}), metadata=widgets(w=("AnyModel", {"_esm": 'import "d3"'})))
    assert line == "  cell 1: a widget would import d3: bundle it into _esm"


def test_what_was_saved_of_a_widget_that_needs_a_kernel_is_shown_with_a_warning():
    picture = new_output("display_data", {"image/png": PNG}, metadata={"image/png": {"alt": "a dot"}})
    metadata = widgets(
        box=("VBoxModel", {"children": ["IPY_MODEL_slider", "IPY_MODEL_out"]}),
        slider=("IntSliderModel", {"value": 3}),
        out=("OutputModel", {"outputs": [printed("it is 3"), picture]}),
        bar=("HBoxModel", {"children": ["IPY_MODEL_left", "IPY_MODEL_progress", "IPY_MODEL_right"]}),
        left=("HTMLModel", {"value": "100%"}),
        progress=("FloatProgressModel", {"value": 3.0}),
        right=("HTMLModel", {"value": "&nbsp;3/3 [00:00&lt;00:00]"}),
        plot=("CanvasModel", {}),
    )
    views = [{VIEW: {"model_id": key}, "text/plain": key} for key in ("box", "bar")]
    views.append({VIEW: {"model_id": "unsaved"}, "text/plain": " 50%|##  | 2/4 [00:01<00:01]"})
    plot = {VIEW: {"model_id": "plot"}, "text/plain": "plot", "text/html": "<table><tr><td>1</td></tr></table>"}
    soup, warnings = export(shown(*views, plot), metadata=metadata)
    assert [pre.text for pre in slides(soup).select("pre.output")] == [
        "it is 3",
        "100% 3/3 [00:00<00:00]",
        " 50%|##  | 2/4 [00:01<00:01]",
    ]
    assert slides(soup).img["alt"] == "a dot" and slides(soup).td.text == "1"
    [line] = warnings
    assert line.startswith("cell 1: the VBoxModel needs a kernel") and "without IntSliderModel; the HBoxModel" in line
    assert refused(shown({VIEW: {"model_id": "slider"}, "text/plain": "IntSlider()"}), metadata=metadata)[0].startswith(
        "  cell 1: the widget IntSliderModel needs a kernel"
    )


def test_within_a_box_anywidgets_run_and_text_stays():
    metadata = widgets(
        box=("TabModel", {"children": ["IPY_MODEL_any", "IPY_MODEL_text", "IPY_MODEL_box", "IPY_MODEL_lost"]}),
        any=("AnyModel", {"_esm": "export default {}"}),
        text=("TextareaModel", {"value": "typed"}),
        broken=("VBoxModel", {"children": None}),
    )
    soup, warnings = export(shown({VIEW: {"model_id": "box"}}), metadata=metadata)
    assert slides(soup).select_one(".widget")["data-model"] == "any" and "typed" in slides(soup).text
    assert "the TabModel needs a kernel" in warnings[0]
    for view in ({"model_id": "broken"}, {}):
        refused(shown({VIEW: view}), metadata=metadata)


# ---- refusals


def test_each_cell_has_one_line_with_its_number(tmp_path):
    cells = [
        new_markdown_cell("![a plan](plan.png) and ![](attachment:lost.png)"),
        new_markdown_cell("fine"),
        new_markdown_cell("![](https://a.b/c.png)"),
        shown({"image/png": PNG}),
        shown({"text/html": f'<img src="data:image/png;base64,{PNG}">'}),
    ]
    first, third, fourth, fifth = refused(*cells, path=tmp_path)
    assert first.startswith(f"  cell 1: the file plan.png is missing: looked for {tmp_path / 'plan.png'}; ")
    assert "the attachment lost.png is missing" in first
    assert third.startswith("  cell 3: ") and "would fetch https://a.b/c.png" in third and "![what it shows](" in third
    assert fourth.startswith("  cell 4: ") and "notebook.show(fig, alt)" in fourth
    assert fifth.startswith("  cell 5: ") and 'alt="what it shows"' in fifth


def test_missing_alternative_text_can_be_a_warning():
    cells = [
        new_markdown_cell("![](attachment:a.png)", attachments={"a.png": {"image/png": PNG}}),
        shown({"image/png": PNG}),
    ]
    soup, warnings = export(*cells, allow_missing_alt=True)
    assert [line[:7] for line in warnings] == ["cell 1:", "cell 2:"] and "no alternative text" in warnings[1]
    assert all(image["alt"] == "a picture without a description" for image in slides(soup)("img"))
    _, warnings = export(new_markdown_cell(f"![image.png](data:image/png;base64,{PNG})"), allow_missing_alt=True)
    assert "is a file's name" in warnings[0]


@pytest.mark.parametrize(("content", "part"), [("{", "JSON"), ("", "JSON"), ('{"nbformat": 99}', "99")])
def test_a_file_that_is_no_notebook_ends_in_one_message(tmp_path, content, part):
    path = tmp_path / "broken.ipynb"
    path.write_text(content)
    command = [sys.executable, "-m", "nbconvert", "--to", "live_slides", str(path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert part in done.stderr and "broken.ipynb" in done.stderr.splitlines()[-1]


def test_nbconvert_s_command_has_our_flags(tmp_path):
    notes = new_markdown_cell("said", metadata={"slideshow": {"slide_type": "notes"}})
    nbformat.write(new_notebook(cells=[shown({"image/png": PNG}), notes]), tmp_path / "one.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--to", "live_slides", str(tmp_path / "one.ipynb")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1 and "no alternative text" in done.stderr
    command += ["--allow-missing-alt", "--exclude-notes"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0 and "WARNING | live_slides: one: cell 1: a picture has no altern" in done.stderr
    assert "said" not in slides(BeautifulSoup((tmp_path / "one.html").read_text("utf-8"), "html.parser")).text


def test_a_badge_is_its_words():
    badge = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com)"
    soup, warnings = export(new_markdown_cell(badge))
    assert slides(soup).a.text == "Open in Colab" and warnings == [
        "cell 1: the badge 'Open in Colab' is from the network: its words are shown"
    ]


def test_links_within_a_notebook_lead_to_its_slides():
    cells = [
        new_markdown_cell("# Title\n\n[there](#The-second-part), [nowhere](#lost), [anchor](#mark)"),
        new_markdown_cell('## The second part\n\n<a name="mark"></a>'),
    ]
    soup, warnings = export(*cells)
    assert soup.find(id="The-second-part").text == "The second part" and soup.find(id="mark")
    assert warnings == ["cell 1: a link leads to #lost, which no slide has"]


def test_the_folder_s_command_names_what_is_missing_and_what_it_warns_of(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(__main__, "launch", lambda: contextlib.nullcontext())
    monkeypatch.setattr(slides_module, "look", lambda *said: None)
    monkeypatch.setattr(__main__, "write_handout", lambda browser, deck: f"{deck.stem}.pdf")
    for missing in ("nothing", "nothing.ipynb"):
        with pytest.raises(SystemExit, match=f"^slides: there is no notebook at .*{missing}$"):
            __main__.main([str(tmp_path / missing), str(tmp_path / "out")])
    notes = new_markdown_cell("said", metadata={"slideshow": {"slide_type": "notes"}})
    nbformat.write(new_notebook(cells=[shown({"image/png": PNG}), notes]), tmp_path / "one.ipynb")
    with pytest.raises(SystemExit, match="no alternative text"):
        __main__.main([str(tmp_path / "one.ipynb"), str(tmp_path / "out")])
    __main__.main([str(tmp_path / "one.ipynb"), str(tmp_path / "out"), "--allow-missing-alt", "--exclude-notes"])
    deck, warning, *_ = capsys.readouterr().out.splitlines()
    assert deck.endswith("one.html") and warning.startswith("  cell 1: a picture has no alternative text")
    assert "said" not in slides(BeautifulSoup((tmp_path / "out/one.html").read_text("utf-8"), "html.parser")).text


# ---- Colab


def test_widgets_saved_by_colab_run():
    metadata = widgets(w=("AnyModel", {"_esm": "export default { render() {} }"}))
    metadata["widgets"][STATE] = metadata["widgets"][STATE]["state"]
    assert (
        slides(export(shown({VIEW: {"model_id": "w"}}), metadata=metadata)[0]).select_one(".widget")["data-model"]
        == "w"
    )
    export(new_markdown_cell("# A"), metadata={"widgets": {}})
    assert re.match("  cell 1: a widget has no saved state", refused(shown({VIEW: {"model_id": "w"}}))[0])


def test_the_notebook_given_is_left_as_it_is():
    notebook = new_notebook(cells=[shown({"image/png": PNG}, metadata={"image/png": {"alt": "a dot"}})])
    before = nbformat.writes(notebook)
    LiveSlidesExporter(check=False).from_notebook_node(notebook)
    assert nbformat.writes(notebook) == before


# ---- in the browser: mathematics, charts, old-style widgets

MATHEMATICS = [
    r"tea \$5, cake \$10",
    r"$\newcommand{\E}{\mathbb{E}}\DeclareMathOperator*{\argmax}{arg\,max}$",
    r"$\E[x]$, $\argmax_x$, $\newcommand{\E}{E} \E$, $\newcommand{\R}{\mathbb{R}} \R$",
    r"\begin{align} a &= b \label{one} \\ c &= d \tag{*} \label{two} \end{align} See \eqref{one}, $\eqref{two}$.",
    r"\begin{eqnarray} a & = & b \\ & = & c \nonumber \end{eqnarray}",
    r"\begin{multline} a \\ + b \label{eq:three} \\ + c \end{multline} See \ref{eq:three}.",
    r"\begin{cases} 1 & a \end{cases} \begin{subequations}\begin{flalign} a &= b \end{flalign}\end{subequations}",
    r"<div>raw $z^2$ \eqref{eq:three}</div>",
]


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens the deck of some cells: (page, what it wrote to the console as errors)."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720}, offline=True)

    def opened(*cells, metadata=None):
        page, errors = context.new_page(), []
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        path = tmp_path / "deck.html"
        path.write_text(str(export(*cells, metadata=metadata)[0]), "utf-8")
        page.goto(path.as_uri())
        page.wait_for_function("window.Reveal?.isReady()")
        return page, errors

    yield opened
    context.close()


@pytest.mark.browser
def test_mathematics_is_that_of_jupyter(opened):
    skipped = new_markdown_cell(r"$\newcommand{\skipped}{S}$", metadata={"slideshow": {"slide_type": "skip"}})
    slide = {"slideshow": {"slide_type": "slide"}}
    page, errors = opened(skipped, *(new_markdown_cell(text, metadata=slide) for text in [*MATHEMATICS, r"$\skipped$"]))
    assert errors == [] and page.locator(".katex-error").count() == 0
    text = page.locator("section").evaluate_all("all => all.map((slide) => slide.textContent)")
    assert "tea $5, cake $10" in text[0]
    assert [sum(tag in part for part in text) for tag in ("(1)", "(*)", "(2)")] == [1, 1, 2]
    assert page.locator(".slides :not(annotation) > a").all_text_contents()[0] == "(1)"
    sources = page.locator("annotation").all_text_contents()
    assert not [source for source in sources if "eqnarray" in source or "multline" in source]
    page.locator("section a", has_text="(2)").evaluate("(link) => link.click()")
    page.wait_for_function("document.querySelector('section.present').textContent.includes('See 2')")


@pytest.mark.browser
def test_what_katex_cannot_set_is_marked_with_its_reason(opened):
    page, _ = opened(new_markdown_cell(r"$\nocommand{x}$, $\frac{1}$ and \eqref{lost}"))
    titles = page.locator(".katex-error").evaluate_all("all => all.map((one) => one.title)")
    assert titles[0] == r"no command \nocommand" and "ParseError" in titles[1] and titles[2].endswith(r"\label{lost}")


@pytest.mark.browser
def test_charts_are_drawn_with_no_network(opened):
    plot = shown({"application/vnd.plotly.v1+json": PLOT.to_plotly_json()})
    vega = shown({"application/vnd.vegalite.v6+json": CHART.to_dict()})
    page, errors = opened(new_markdown_cell("# One"), plot, new_markdown_cell("# Two"), vega)
    assert errors == []
    page.evaluate("Reveal.slide(0)")
    assert page.locator(".chart .main-svg").first.bounding_box()["height"] > 300
    page.evaluate("Reveal.slide(1)")
    assert page.locator(".chart svg.marks").bounding_box()["height"] > 100


@pytest.mark.browser
def test_frames_of_plotly_are_there(opened):
    chart = {"data": [{"y": [1]}], "layout": {"title": "t"}, "frames": [{"name": "one", "data": [{"y": [2]}]}]}
    by_html = plotly.graph_objects.Figure(**{**chart, "layout": {"title": {"text": "t"}}}).to_html(
        include_plotlyjs=False, full_html=False
    )
    for bundle in ({"application/vnd.plotly.v1+json": chart}, {"text/html": by_html}):
        page, errors = opened(shown(bundle))
        assert errors == []
        assert page.evaluate("document.querySelector('.js-plotly-plot')._transitionData._frames.length") == 1


@pytest.mark.browser
def test_models_of_one_factory_are_apart(opened):
    code = """export default () => {
      let model;
      return { initialize(given) { model = given.model; }, render({ el }) { el.textContent = model.get("is"); } };
    }"""
    metadata = widgets(one=("AnyModel", {"_esm": code, "is": "1"}), two=("AnyModel", {"_esm": code, "is": "2"}))
    page, errors = opened(*(shown({VIEW: {"model_id": key}}) for key in ("one", "two")), metadata=metadata)
    assert errors == [] and page.locator(".widget").all_text_contents() == ["1", "2"]


@pytest.mark.browser
def test_modules_of_the_old_style_run(opened):
    code = "export function render({ model, el }) { el.textContent = `is ${model.get('value')}` }"
    metadata = widgets(w=("AnyModel", {"_esm": code, "value": 3}))
    page, errors = opened(shown({VIEW: {"model_id": "w"}}), metadata=metadata)
    assert errors == [] and page.locator(".widget").text_content() == "is 3"


# ---- what does not fit

LINES = "\n".join(f"x_{k} = f({k})" for k in range(70))
TABLE = "<table><thead><tr><th>k</th></tr></thead>{}</table>".format(
    "".join(f"<tr><td>{k}</td></tr>" for k in range(30))
)
WIDE = "<table><tr>{}</tr></table>".format("".join(f"<td>number {k}</td>" for k in range(40)))
GRADIENT = "<svg xmlns='http://www.w3.org/2000/svg' width='640' height='480'><rect width='640' height='480'/></svg>"
FIGURE = new_output("display_data", {"image/svg+xml": GRADIENT}, metadata={"image/svg+xml": {"alt": "a box"}})
TOO_MUCH = {
    "paragraphs": [new_markdown_cell("# A"), *(new_markdown_cell(f"Paragraph {k}.") for k in range(40))],
    "a list": [new_markdown_cell("# A\n\n" + "\n".join(f"{k + 1}. item" for k in range(30)))],
    "code": [new_markdown_cell("# A"), new_code_cell(LINES)],
    "a table": [new_markdown_cell("# A"), shown({"text/html": TABLE})],
    "figures": [new_markdown_cell("# A"), new_code_cell("draw()", outputs=[FIGURE] * 5)],
    "a little": [new_markdown_cell("# A\n\n" + "\n\n".join(["One line."] * 11))],
    "a log": [new_markdown_cell("# A"), new_code_cell("run()", outputs=[printed("a line\n" * 400)])],
    "a wide table": [new_markdown_cell("# A"), shown({"text/html": WIDE})],
}
SEEN = """async () => {
  const slides = [];
  for (const section of Reveal.getSlides()) {
    const { h, v } = Reveal.getIndices(section);
    Reveal.slide(h, v ?? 0, 99);
    await new Promise(requestAnimationFrame);
    const blocks = [...section.querySelectorAll("p, li, pre, tr, img")].filter((e) => !e.closest(".scrolls"));
    const boxes = [...section.querySelectorAll(".scrolls")];
    slides.push({
      heading: section.querySelector("h1, h2")?.textContent,
      text: section.textContent,
      first: section.querySelector("ol")?.start,
      pictures: [...section.querySelectorAll("img")].map((e) => e.getBoundingClientRect().height),
      bottom: Math.max(0, ...[...blocks, ...boxes].map((e) => e.getBoundingClientRect().bottom)),
      scrolls: boxes.map((e) => [e.scrollHeight > e.clientHeight, e.scrollWidth > e.clientWidth, e.tabIndex]),
    });
  }
  return slides;
}"""


@pytest.mark.browser
@pytest.mark.parametrize(
    ("kind", "scrolls"),
    [
        ("paragraphs", []),
        ("a list", []),
        ("code", []),
        ("a table", []),
        ("figures", []),
        ("a little", []),
        ("a log", [[True, False, 0]]),
        ("a wide table", [[False, True, 0]]),
    ],
)
def test_what_does_not_fit_is_split_scaled_or_scrolls(opened, kind, scrolls):
    page, errors = opened(*TOO_MUCH[kind])
    slides = page.evaluate(SEEN)
    count = len(slides)  # depends on fonts
    assert errors == [] and (count > 2) == (kind in ("paragraphs", "a list", "code", "a table", "figures"))
    assert [slide["heading"] for slide in slides] == ["A", *(f"A ({k})" for k in range(2, count + 1))]
    assert all(slide["bottom"] <= 692 for slide in slides)
    assert [box for slide in slides for box in slide["scrolls"]] == scrolls
    assert all(height > 150 for slide in slides for height in slide["pictures"])
    text = "".join(slide["text"] for slide in slides)
    if kind == "code":
        assert re.findall(r"x_(\d+) = f", text) == [str(k) for k in range(70)]
    if kind == "a table":
        assert text.count("k") == count and "29" in slides[-1]["text"], "the head is repeated"
    if kind == "a list":
        assert slides[1]["first"] > 8
    size = "(e) => e.currentCSSZoom * parseFloat(getComputedStyle(e).fontSize)"
    assert page.evaluate(f"[...document.querySelectorAll('section :is(p, td, pre)')].map({size}).every((s) => s >= 18)")


@pytest.mark.browser
def test_a_handout_has_all_that_does_not_fit(chromium, tmp_path):
    cells = [cell for name in ("code", "a log", "a wide table") for cell in TOO_MUCH[name]]
    (tmp_path / "deck.html").write_text(str(export(*cells)[0]), "utf-8")
    pdf = handout.write_handout(chromium, tmp_path / "deck.html").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 20


@pytest.mark.browser
def test_the_export_says_what_did_not_fit_was_not_set_or_failed(chromium):
    slide = {"slideshow": {"slide_type": "slide"}}
    code = "export default { render() { throw new Error('no luck') } }"
    asks = "export default { render() { fetch('https://a.b/c.json').catch(() => {}) } }"
    cells = [
        *TOO_MUCH["a log"],
        new_markdown_cell(r"## B" + "\n\n" + r"$\nocommand$ and \eqref{lost}", metadata=slide),
        shown({VIEW: {"model_id": "w"}}),
        shown({"text/html": "<div id='viz'></div><script>nowhere.select('#viz')</script>"}),
    ]
    notebook = new_notebook(cells=cells, metadata=widgets(w=("AnyModel", {"_esm": code})))
    _, resources = LiveSlidesExporter().from_notebook_node(notebook)
    log, formula, widget, script = resources["warnings"]
    assert re.fullmatch(r"cell 2: slide 1.1: an output \d+ px tall, scrolls", log)
    assert formula.startswith(r"cell 3: slide 2.1: KaTeX cannot set \nocommand: no command \nocommand; ")
    assert r"no equation has \label{lost}" in formula
    assert widget == "cell 4: slide 2.1: This widget failed: no luck"
    assert script.startswith("cell 5: slide 2.1: a script failed:") and "nowhere is not defined" in script
    notebook.metadata = widgets(w=("AnyModel", {"_esm": asks}))
    with pytest.raises(SlidesError, match=r"something asks for https://a.b/c.json, which is not in the deck"):
        LiveSlidesExporter().from_notebook_node(notebook)


def test_without_a_browser_the_export_says_that_nothing_was_looked_at(monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/no/such/browser")
    _, resources = LiveSlidesExporter().from_notebook_node(new_notebook(cells=[new_markdown_cell("# A")]))
    assert "not opened in a browser" in resources["warnings"][0] and "/no/such/browser" in resources["warnings"][0]
