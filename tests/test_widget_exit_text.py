"""ExitText: bytes leave in the browser where they leave in torch."""

import html
import json

import numpy as np
import pytest
import torch
from javascript import module_of, moves_to, refuses

from lecture_lib.widgets import ExitText

TEXT = "def f(x):\n\treturn 'é<b>'\n".encode()
SURE = torch.rand(len(TEXT), 4, generator=torch.Generator().manual_seed(2))
AGREES = torch.rand(len(TEXT), 4, generator=torch.Generator().manual_seed(3)) < SURE
AGREES[:, -1] = True
READING = {"text_bytes": TEXT, "confidence": SURE, "agrees": AGREES, "flops": [1e5, 2.2e5, 3e5, 4e5], "full": 3.6e5}

exit_text = module_of(ExitText)


def test_bytes_leave_in_the_browser_where_they_leave_in_torch(exit_text):
    """At every threshold, those included that equal a confidence: each byte's exit, and all means."""
    widget = ExitText(**READING, thresholds=sorted([0.0, 0.5, 0.9, 1.0, *SURE[:5, 1].tolist()]))
    thresholds = widget._data["thresholds"]
    found = exit_text(f"((d) => d.thresholds.map((t) => w.leave(t, w.record(d))))({json.dumps(widget._data)})")
    for threshold, ours in zip(thresholds, found, strict=True):
        exits = [next((b for b in range(4) if row[b] >= threshold), 3) for row in SURE]
        right = [bool(AGREES[t, b]) for t, b in enumerate(exits)]
        assert ours["exits"] == exits and ours["right"] == right
        assert ours["left"] == [exits.count(b) for b in range(4)]
        assert ours["exit"] == pytest.approx(np.mean(exits))
        assert ours["flops"] == pytest.approx(np.mean([READING["flops"][b] for b in exits]))
        assert ours["agreement"] == pytest.approx(np.mean(right))
        cost = np.mean([READING["flops"][b] for b in exits]) / READING["full"]
        row = f"<td>{threshold:.4g}</td><td>{np.mean(exits):.2f}</td><td>{cost:.0%}</td>"
        assert row in widget._fallback()


def test_every_byte_has_a_picture(exit_text):
    pictures = exit_text(f"{list(TEXT)}.map(w.glyph)")
    assert "".join(pictures) == "def f(x):↵\n→   return '··<b>'↵\n"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"text_bytes": b""}, ["text_bytes", "1 to 600 bytes", "of shape (0,)"]),
        ({"text_bytes": "abc"}, ["text_bytes", "1 to 600 bytes", "'abc'"]),
        ({"text_bytes": [300]}, ["text_bytes", "from 0 to 255", "300"]),
        ({"confidence": SURE[:-1]}, ["confidence", f"for {len(TEXT)} bytes", f"({len(TEXT) - 1}, 4)"]),
        ({"confidence": 2 * SURE}, ["confidence", "from -1 to 1"]),
        ({"agrees": SURE}, ["agrees", "booleans", "neither 0 nor 1"]),
        ({"agrees": ~AGREES}, ["agrees", "true at the last exit", "false there"]),
        ({"flops": [4, 3, 2, 1]}, ["flops", "ascending positive numbers", "4 exits", "[4.0, 3.0, 2.0, 1.0]"]),
        ({"full": 0}, ["full", "a positive number"]),
        ({"thresholds": [1, 0]}, ["thresholds", "ascending", "[1.0, 0.0]"]),
        ({"threshold": 0.55}, ["threshold", "one of the thresholds", "0.55"]),
    ],
)
def test_exit_text_refuses_by_name(arguments, parts):
    refuses(ExitText, READING | arguments, parts)


def test_exit_text_in_python():
    widget = ExitText(**READING | {"text_bytes": torch.tensor(list(TEXT), dtype=torch.uint8)}, threshold=0.9)
    assert widget.threshold == 0.9 and repr(widget) == f"ExitText({len(TEXT)} bytes, 4 exits)"
    moves_to(widget, "threshold", 0.5)
    assert "<pre>" + html.escape(TEXT.decode()) + "</pre>" in widget._fallback()
