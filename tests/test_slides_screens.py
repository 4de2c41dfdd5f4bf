"""A deck on screens of all sizes, by touch and by keys, and in the speaker's window."""

import pytest
from nbformat.v4 import new_notebook
from test_slides import cell, export, small  # noqa: F401

SCREENS = {
    "portrait": (390, 844),
    "landscape": (844, 390),
    "enlarged": (640, 360),
    "4:3": (1024, 768),
    "4K": (3840, 2160),
}
FAULTS = """() => {
  const faults = [], slide = Reveal.getCurrentSlide(), box = slide.getBoundingClientRect();
  const scrolls = (e) => /auto|scroll/.test(getComputedStyle(e).overflowX);
  const reached = (e) => {
    for (; e !== slide; e = e.parentElement) if (scrolls(e)) return true;
    return false;
  };
  if (box.left < -1 || box.top < -1 || box.right > innerWidth + 1 || box.bottom > innerHeight + 1)
    faults.push("the slide is larger than the window");
  for (const e of slide.querySelectorAll("*")) {
    if (e.closest("aside.notes, .katex-mathml") || e.parentElement.closest(".katex, svg")) continue;
    const r = e.getBoundingClientRect();
    if (!r.width || !r.height) continue;
    const name = `${e.tagName}.${e.getAttribute("class")} ${e.textContent.trim().slice(0, 30)}`;
    if (e.matches("img, .widget, svg.ll-picture") && r.height < 100) faults.push(`only ${r.height} px high: ${name}`);
    const left = r.left < box.left - 1 || r.right > box.right + 1;
    const below = r.top < box.top - 1 || r.bottom > box.bottom + 1;
    if ((left || (below && !/auto/.test(getComputedStyle(slide).overflowY))) && !reached(e))
      faults.push(`is cut off: ${name}`);
    const text = [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const size = parseFloat(getComputedStyle(e).fontSize) * Reveal.getScale();
    if (text && !e.closest("sup, sub") && size < 18 * 0.64 - 0.01) faults.push(`has ${size} px: ${name}`);
  }
  return faults;
}"""
SLIDES = "Reveal.getSlides().map((slide) => { const { h, v } = Reveal.getIndices(slide); return [h, v ?? 0] })"
HERE = "(() => { const { h, v } = Reveal.getIndices(); return [h, v ?? 0] })()"

pytestmark = pytest.mark.browser


@pytest.fixture
def open_deck(small, chromium, tmp_path):  # noqa: F811
    """A function that opens the small deck, or another, in a window of some size; it has no network."""
    contexts = []

    def open_(width=1280, height=720, at="", deck=small, **options):
        path = tmp_path / "deck.html"
        path.write_text(deck, "utf-8")
        context = chromium.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.goto(path.as_uri() + at)
        page.wait_for_selector(".reveal.ready")
        return page

    yield open_
    for context in contexts:
        context.close()


def frames(page, count=2):
    for _ in range(count):
        page.evaluate("new Promise(requestAnimationFrame)")


@pytest.mark.parametrize("screen", SCREENS)
def test_all_of_a_slide_can_be_seen_on_every_screen(open_deck, screen):
    page = open_deck(*SCREENS[screen])
    faults = []
    for h, v in page.evaluate(SLIDES):
        page.evaluate("([h, v]) => Reveal.slide(h, v, 99)", [h, v])
        page.evaluate("document.querySelectorAll('details').forEach((answer) => { answer.open = true; })")
        faults += [f"{h + 1}.{v + 1}: {fault}" for fault in page.evaluate(FAULTS)]
    assert faults == [], "\n".join(faults)
    scale = {"4:3": 0.8, "4K": 3}.get(screen, 0.64)
    assert page.evaluate("Reveal.getScale()") == scale


def test_a_window_that_grows_again_has_the_slides_of_before(open_deck):
    page = open_deck()
    page.evaluate("Reveal.slide(3, 0)")
    place = "[...document.querySelectorAll('section.present *')].map((e) => e.getBoundingClientRect().toJSON())"
    before = page.evaluate(place)
    page.set_viewport_size({"width": 390, "height": 844})
    frames(page)
    assert page.locator(".small").count() == 1 and page.evaluate("Reveal.getConfig().width") == 609
    assert page.evaluate(HERE) == [3, 0]
    page.set_viewport_size({"width": 1280, "height": 720})
    frames(page)
    assert page.evaluate(place) == before


class Finger:
    """Moves over a page as a finger does."""

    def __init__(self, page):
        self.page, self.session = page, page.context.new_cdp_session(page)

    def move(self, start, end):
        def send(kind, points):
            touches = [{"x": x, "y": y} for x, y in points]
            self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

        send("touchStart", [start])
        for k in range(1, 11):
            send("touchMove", [[a + (b - a) * k / 10 for a, b in zip(start, end, strict=True)]])
            frames(self.page, 1)
        send("touchEnd", [])
        frames(self.page)


def test_a_finger_scrolls_turns_and_moves_a_slider(open_deck):
    page = open_deck(844, 390, has_touch=True, is_mobile=True)
    finger, top = Finger(page), "Reveal.getCurrentSlide().scrollTop"
    page.evaluate("Reveal.slide(3, 0)")
    assert page.evaluate("Reveal.getCurrentSlide().scrollHeight - Reveal.getCurrentSlide().clientHeight") > 50
    finger.move((420, 300), (420, 120))
    assert page.evaluate(top) > 50 and page.evaluate(HERE) == [3, 0]
    page.evaluate("Reveal.getCurrentSlide().scrollTop = 0")
    slider = page.locator("section.present input[type=range]")
    box, value = slider.bounding_box(), slider.input_value()
    y = box["y"] + box["height"] / 2
    finger.move((box["x"] + box["width"] * 0.7, y), (box["x"] + box["width"] * 0.2, y))
    assert slider.input_value() != value and page.evaluate(HERE) == [3, 0]
    finger.move((600, 250), (300, 250))
    assert page.evaluate(HERE) == [4, 0]
    finger.move((300, 250), (600, 250))
    assert page.evaluate(HERE) == [3, 0]
    page.evaluate("Reveal.slide(0, 0)")
    for place in ([1, 0], [1, 0], [1, 1], [2, 0]):  # a fragment, and then down: each swipe is a step
        finger.move((600, 200), (300, 200))
        assert page.evaluate(HERE) == place


def test_what_is_wider_than_its_box_scrolls_under_a_finger(open_deck):
    page = open_deck(390, 844, has_touch=True, is_mobile=True)
    page.evaluate("Reveal.slide(6, 0)")
    table = page.locator("section.present table")
    table.evaluate("table => table.rows[1].cells[0].append('x'.repeat(99))")
    page.evaluate("dispatchEvent(new Event('resize'))")
    box = table.bounding_box()
    assert box["width"] < 390
    Finger(page).move((300, box["y"] + 20), (60, box["y"] + 20))
    assert table.evaluate("table => table.scrollLeft") > 100 and page.evaluate(HERE) == [6, 0]


def test_a_wheel_and_keys_scroll_a_slide_of_a_small_window(open_deck):
    page = open_deck(640, 360)
    page.evaluate("Reveal.slide(3, 0)")
    top = "Reveal.getCurrentSlide().scrollTop"
    page.mouse.move(300, 150)
    page.mouse.wheel(0, 60)
    page.wait_for_timeout(200)
    assert page.evaluate(top) > 30
    for _ in range(9):
        if page.evaluate(HERE) != [3, 0]:
            break
        before = page.evaluate(top)
        page.keyboard.press("ArrowDown")
        frames(page)
    assert page.evaluate(HERE) == [4, 0] and before > 60 and page.evaluate(top) == 0
    page.keyboard.press("PageUp")
    assert page.evaluate(HERE) == [3, 0], "the page keys turn the slide at once"


def test_what_scrolls_has_the_arrow_keys_while_it_has_the_focus_and_no_slide_is_skipped(open_deck):
    table = "\n".join([" | ".join(["a_long_heading"] * 20), "|".join(["---"] * 20), " | ".join(["1"] * 20)])
    text = "\n\n".join(["A paragraph of a few words."] * 20)
    deck = export(new_notebook(cells=[cell(f"## Much\n\n{table}\n\n{text}", "slide"), cell("## Last", "slide")]))
    page = open_deck(deck=deck)
    box = page.locator("section.present .scrolls")
    for _ in range(3):
        box.press("ArrowRight")
    page.wait_for_timeout(300)
    assert box.evaluate("box => box.scrollLeft") > 50 and page.evaluate(HERE) == [0, 0]
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body && !Reveal.isOverview()")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(HERE) == [0, 1], "the rest of the slide comes first"


def test_the_overview_shows_all_slides_whole(open_deck):
    page = open_deck()
    page.keyboard.press("o")
    page.wait_for_timeout(300)
    shown = page.evaluate(
        """Reveal.getSlides().map((slide) => {
          const { width, height, left, top } = slide.getBoundingClientRect();
          return { ratio: width / height, place: [Math.round(left), Math.round(top)].join(), width };
        })"""
    )
    assert len({slide["place"] for slide in shown}) == len(shown) == 8
    assert all(slide["width"] > 100 and abs(slide["ratio"] - 16 / 9) < 0.01 for slide in shown)


def test_search_finds_words_on_every_slide_and_changes_none(open_deck):
    page = open_deck()
    slides = "document.querySelector('.slides').textContent"
    before, box = page.evaluate(slides), page.get_by_role("searchbox", name="Search all slides")
    page.keyboard.press("/")
    box.type("a SMALL deck")  # over three elements
    assert page.locator(".search output").text_content() == "1"
    box.fill("temperature")
    hits = []
    for _ in range(3):
        box.press("Enter")
        hits.append(page.evaluate(HERE))
    assert hits == [[3, 0], [4, 0], [3, 0]] and page.locator(".search output").text_content() == "1 of 2"
    assert page.evaluate("[...CSS.highlights.keys()]") == ["hit", "here"]
    box.press("Shift+Enter")
    assert page.evaluate(HERE) == [4, 0]
    for words, count in (("What is said", "none"), ("f(x", "none"), ("never idle", "none"), ("dense layer", "1")):
        box.fill(words)
        assert page.locator(".search output").text_content() == count, words
    box.press("Enter")
    assert page.locator("p", has_text="dense layer").is_visible(), "an answer that has the words opens"
    box.fill("costs $5")
    box.press("Enter")
    assert page.evaluate(HERE) == [1, 0] and page.locator("p", has_text="It costs").is_visible()
    box.press("Escape")
    assert box.is_hidden() and page.evaluate("CSS.highlights.size") == 0
    assert not page.evaluate("Reveal.isOverview()"), "this Escape only closes the search"
    assert page.evaluate(slides) == before and page.locator("em").count() == 1
    page.keyboard.press("Control+Shift+F")
    assert page.evaluate("document.activeElement.type") == "search"


def test_back_leads_to_the_slide_shown_before(open_deck):
    page = open_deck()
    page.evaluate(
        """document.querySelector("section h1").insertAdjacentHTML("afterend", '<a href="#/5">to the guess</a>')"""
    )
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    page.go_back()
    assert page.evaluate(HERE) == [1, 0]
    page.evaluate("Reveal.slide(0, 0)")
    page.get_by_role("link", name="to the guess").click()
    assert page.evaluate(HERE) == [5, 0]
    page.go_back()
    assert page.evaluate(HERE) == [0, 0]
    page.go_forward()
    assert page.evaluate(HERE) == [5, 0]


def test_escape_gives_a_sliders_keys_back(open_deck):
    page = open_deck(at="#/3")
    page.locator("section.present input[type=range]").press("Escape")
    assert page.evaluate("document.activeElement === document.body && !Reveal.isOverview()")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(HERE) == [4, 0]
    page.keyboard.press("Escape")
    assert page.evaluate("Reveal.isOverview()")


def test_the_speakers_widgets_move_with_those_of_the_talk(open_deck):
    page = open_deck(at="#/3")
    with page.context.expect_page() as opened:
        page.keyboard.press("s")
    speaker = opened.value
    slider = "section.present input[type=range]"
    preview = speaker.frame_locator("#current-slide iframe").locator(slider)
    preview.wait_for()
    speaker.frame_locator("#upcoming-slide iframe").locator("section.present").first.wait_for()
    speaker.wait_for_timeout(800)  # the windows meet
    page.locator(slider).press("Home")
    assert page.locator(slider).input_value() == "0"
    speaker.wait_for_timeout(600)
    assert preview.input_value() == "0"
    assert speaker.frame_locator("#upcoming-slide iframe").locator(slider).input_value() == "0"
    preview.press("End")
    moved = preview.input_value()
    speaker.wait_for_timeout(1000)
    assert page.locator(slider).input_value() == moved != "0"
    page.keyboard.press("PageDown")
    page.locator(slider).press("Home")
    speaker.wait_for_timeout(600)
    assert preview.input_value() == "0" and page.evaluate(HERE) == [4, 0]
