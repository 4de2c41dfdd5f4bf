"""What a notebook's figures say to those who do not see them: in the file, on the web, in a deck."""

import base64

import matplotlib.pyplot as plt
import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter

from lecture_lib import notebook
from lecture_lib.slides import LiveSlidesExporter

ALT = "The loss falls & stays < 1"


@pytest.fixture
def shown(monkeypatch):
    """A notebook whose one cell shows a figure."""
    outputs = []

    def display(data, metadata, raw):
        data = {kind: base64.b64encode(x).decode() if isinstance(x, bytes) else x for kind, x in data.items()}
        outputs.append(nbformat.v4.new_output("display_data", data, metadata=metadata))

    monkeypatch.setattr(notebook, "display", display)
    notebook.show(plt.figure(figsize=(1, 1)), ALT)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("show()", outputs=outputs)])


def test_a_page_of_nbconvert_has_the_words_folded_below_the_figure(shown):
    page = BeautifulSoup(HTMLExporter().from_notebook_node(shown)[0], "html.parser")
    assert page.find("img").find_next("details").get_text() == f"What the figure shows{ALT}"


def test_a_deck_has_them_with_the_figure_alone(shown):
    page = BeautifulSoup(LiveSlidesExporter().from_notebook_node(shown)[0], "html.parser")
    assert page.find("img")["alt"] == ALT
    assert not page.find("details") and "What the figure shows" not in page.get_text()
