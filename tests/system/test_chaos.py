"""Every fault of the simulated venue, and kills of the collector: `gaps` says what is lacking, no more and no less.

The long form: `python -m bench.chaos --long`.
"""

from __future__ import annotations

from pathlib import Path

from collectors.simulator.orders import ORDERS
from quality.verify import verify
from tests.system.chaos import run
from tests.system.proof import prove

QUESTIONS = {"stats", "flush_account", "sessions", "book", "truth", "limits"}
BOOKS_MIN = 100


def test_a_lake_recorded_through_every_fault_is_whole_but_for_its_gaps(tmp_path: Path) -> None:
    case, done = run(tmp_path, cycles=1, seed=11, breath_s=0.4)
    assert set(done) == set(ORDERS) - QUESTIONS, "a fault was left out"
    verdict = prove(case)
    assert verdict.problems == []
    assert verdict.counts["books compared"] >= BOOKS_MIN
    assert verdict.counts["frames lacking, on record"] > 0
    assert {cause for cause in ("book_break", "disconnect", "silence") if verdict.counts[f"gaps: {cause}"]}
    assert verify(case.root).problems == []
