"""The benchmarks run, and what they have recorded keeps the promised limits."""

import json
import sys
from pathlib import Path

import pytest
import torch

from lecture_lib.cost import Machine

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def test_every_recorded_row_is_within_its_limit_or_says_why_not():
    records = json.loads((FOLDER / "results.json").read_text("utf-8"))
    rows = [row for record in records.values() for row in record["rows"]]
    promised = [row for row in rows if "limit" in row]
    assert len(promised) > 20 and all("date" in record for record in records.values())
    missed = [row for row in promised if row.get("ratio_low", row["ratio"]) > row["limit"]]
    assert all("why" in row for row in missed) and len(missed) < 0.2 * len(promised)
    assert all(row["share_of_matmul_rate"] <= 1 for row in rows if "share_of_matmul_rate" in row)


def test_the_rows_of_a_gpu_run_small_on_the_cpu():
    pytest.importorskip("transformers")
    from case import measure
    from experts import on_gpu

    torch.manual_seed(0)
    tiny = {"tokens": (1, 32), "width": 16, "hidden": 8, "n": 4, "backend": "aot_eager"}
    rows = [measure(case._replace(rounds=1)) for case in on_gpu("cpu", **tiny)]
    assert [row["against"] for row in rows] == 2 * (2 * ["dense, compiled"] + 2 * ["Mixtral, grouped_mm"])
    assert rows[4]["flops"] == 3 * 3 * 2 * 2 * 32 * 16 * 8  # both ways, three matrices, two experts for a token


def test_the_ratio_is_that_of_the_rounds_and_a_product_faster_than_its_machine_is_refused():
    from case import Case, Work, measure, under_roof

    fast, slow = lambda: torch.ones(10), lambda: torch.ones(1000, 1000).sum(0)[:10] / 1000
    row = measure(Case("ones", fast, "many ones", slow, work=Work(1e6, 1e3), rounds=3))
    assert row["ratio"] < row["limit"] and row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    row = {"what": "a step", "ms": 2.0, "flops": 1e6, "n_bytes": 1e3}
    assert under_roof(row, Machine(1e9, 1e6)) == {"times_roofline": 2, "share_of_matmul_rate": 0.5}
    with pytest.raises(RuntimeError, match="a step was faster than the machine's rate of products"):
        under_roof(row, Machine(4e8, 1e6))


@pytest.mark.skipif(sys.platform == "win32", reason="as the tests of the example")
def test_a_row_for_each_number_of_processes():
    from processes import over_processes

    tiny = "--d-model 16 --layers 1 --experts 4 --batch 3 --context 16".split()
    one, two = over_processes(*tiny, worlds=(1, 2))
    assert one["processes"] == 1 and one["tokens_per_second"] > 0 and one["mb_exchanged_per_step"] == 0
    assert two["processes"] == 2 and two["tokens_per_second"] > 0 and 0 < two["mb_exchanged_per_step"] < 1
