"""Every deck of a folder of notebooks, or one: `python -m lecture_lib.slides notebooks build/slides`.

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
    parser.add_argument("notebooks", type=Path, help="a folder of executed notebooks, and perhaps talk.toml; or one")
    parser.add_argument("output", type=Path, help="the folder of decks and handouts")
    parser.add_argument(
        "--allow-missing-alt", action="store_true", help="only warn of pictures without alternative text"
    )
    parser.add_argument("--exclude-notes", action="store_true", help="leave the speaker's notes out")
    options = vars(parser.parse_args(argv))
    try:
        decks = write_decks(**options)
    except (SlidesError, AssetsError) as error:
        raise SystemExit(f"slides: {error}") from None
    try:
        with launch() as browser:
            for deck in decks:
                print(write_handout(browser, deck))
    except BrowserError as error:
        print(f"no PDF handouts: {error}")


def write_decks(notebooks: Path, output: Path, **options) -> list[Path]:
    """Writes the deck of a notebook, or of each of a folder and of the talk; gives their paths.

    Raises:
        SlidesError: there is no notebook, or one that cannot become a deck.
    """
    paths = sorted(notebooks.glob("*.ipynb")) if notebooks.is_dir() else [notebooks]
    if not paths or not paths[0].is_file():
        raise SlidesError(f"there is no notebook at {notebooks}")
    decks = {path.stem: nbformat.read(path, 4) for path in paths}
    if (notebooks / "talk.toml").exists():
        decks["talk"] = talk(notebooks)
    output.mkdir(parents=True, exist_ok=True)
    for name, nb in decks.items():
        resources = {"metadata": {"name": name, "path": str(paths[0].parent)}}
        page, resources = LiveSlidesExporter(**options).from_notebook_node(nb, resources=resources)
        (output / f"{name}.html").write_text(page, "utf-8")
        print(output / f"{name}.html", *resources["warnings"], sep="\n  ")
    return [output / f"{name}.html" for name in decks]


if __name__ == "__main__":
    main()
