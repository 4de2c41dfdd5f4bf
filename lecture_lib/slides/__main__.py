"""Every deck of a folder of notebooks: `python -m lecture_lib.slides notebooks build/slides`.

NAME.html for each notebook, talk.html of the slides that talk.toml names, and a PDF handout of each where there is a
browser to print it.
"""

import argparse
from pathlib import Path

import nbformat

from lecture_lib.slides import AssetsError, LiveSlidesExporter, SlidesError, talk
from lecture_lib.slides.handout import BrowserError, launch, write_handout


def main(argv: list[str] | None = None) -> None:
    """The command line; what cannot become a deck ends it with one message, a missing browser does not."""
    parser = argparse.ArgumentParser(prog="python -m lecture_lib.slides", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path, help="a folder of executed notebooks, and perhaps talk.toml")
    parser.add_argument("output", type=Path, help="the folder of decks and handouts")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        decks = write_decks(options.notebooks, options.output)
    except (SlidesError, AssetsError) as error:
        raise SystemExit(f"slides: {error}") from None
    try:
        with launch() as browser:
            for deck in decks:
                print(write_handout(browser, deck))
    except BrowserError as error:
        print(f"no PDF handouts: {error}")


def write_decks(notebooks: Path, output: Path) -> list[Path]:
    """Writes the deck of each notebook, and of the talk; gives their paths."""
    decks = {path.stem: nbformat.read(path, 4) for path in sorted(notebooks.glob("*.ipynb"))}
    if (notebooks / "talk.toml").exists():
        decks["talk"] = talk(notebooks)
    for name, nb in decks.items():
        page, _ = LiveSlidesExporter().from_notebook_node(nb, resources={"metadata": {"name": name}})
        (output / f"{name}.html").write_text(page, "utf-8")
        print(output / f"{name}.html")
    return [output / f"{name}.html" for name in decks]


if __name__ == "__main__":
    main()
