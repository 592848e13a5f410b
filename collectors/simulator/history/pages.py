"""Pages of trades as the venue's two hosts give them, with their limits and habits.

The live host tells of the last 24 hours and of `liquidation` only an hour after the trade. The history host has
everything up to some minutes ago, in no order within a millisecond, and answers a range of `trade_seq` with
neighbours of the same milliseconds as well; its `has_more` is now and then wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from collectors.simulator.chain import DAY_MS, Spec
from collectors.simulator.history.course import HOUR_MS, MINUTE_MS
from collectors.simulator.history.noise import Ints, key, uniform
from collectors.simulator.history.past import Past
from collectors.simulator.history.render import LIQUIDATION_KNOWN_MS, render, with_liquidation
from collectors.simulator.instrument import Instrument, Trade

Host = Literal["www", "history"]
Sorting = Literal["asc", "desc", "default"]
MAX_TRADES: Final[dict[Host, int]] = {"www": 1_000, "history": 10_000}
HORIZON_MS: Final = DAY_MS
HISTORY_LAG_MS: Final = 10 * MINUTE_MS
WRONG_MORE: Final = 1 / 40  # of the pages
_MAX_LEAK: Final = 20  # neighbours on each side of a range of numbers
FOREVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Range:
    """What a request asks for; bounds inclusive."""

    first_ms: int = 0
    last_ms: int = FOREVER
    first_seq: int = 0
    last_seq: int = FOREVER
    count: int = 10
    rising: bool = True
    sorting: Sorting = "default"

    @property
    def by_number(self) -> bool:
        """Whether it names numbers."""
        return self.first_seq > 0 or self.last_seq < FOREVER


class _Run(NamedTuple):
    """Consecutive trades of one instrument: numbers of the tape, then trades of the live market."""

    spec: Spec
    first: int
    last: int  # less than `first`: none of the tape
    live: list[Trade]

    def __len__(self) -> int:
        return max(self.last - self.first + 1, 0) + len(self.live)

    def part(self, count: int, *, rising: bool) -> _Run:
        """The first or the last `count` of it."""
        if len(self) <= count:
            return self
        taped = max(self.last - self.first + 1, 0)
        if rising:
            kept = min(count, taped)
            return _Run(self.spec, self.first, self.first + kept - 1, self.live[: count - kept])
        kept = max(count - len(self.live), 0)
        return _Run(self.spec, self.last - kept + 1, self.last, self.live[-count:])


class _Row(NamedTuple):
    ts: int
    seq: int
    text: str


class Pages:
    """Answers the methods of trades out of the past and the live market."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self._more = key(past.settings.seed, "has_more")
        self._order = key(past.settings.seed, "order")

    def of_instrument(
        self, spec: Spec, live: Instrument | None, asked: Range, host: Host, now_ms: int
    ) -> dict[str, Any]:
        """A page of one instrument."""
        asked = bounded(asked, host, now_ms)
        run = self._run(spec, () if live is None else live.trades, asked)
        chosen = run.part(asked.count, rising=asked.rising)
        if host == "history" and asked.by_number:
            chosen = self._leaked(chosen, asked)
        rows = self._rows(chosen, host, now_ms)
        return self._page(rows, len(run) > asked.count, asked, host)

    def of_many(
        self, specs: Collection[Spec], live: Iterable[Trade], asked: Range, host: Host, now_ms: int
    ) -> dict[str, Any]:
        """A page over several instruments, of which the live trades are given in rising order."""
        asked = bounded(asked, host, now_ms)
        fresh = [t for t in live if asked.first_ms <= t.timestamp <= asked.last_ms]
        first, last = max(asked.first_ms, self.past.first_ms), min(asked.last_ms, self.past.end_ms - 1)
        by_name = {spec.name: spec for spec in specs}
        wanted = asked.count + 1  # one more than told shows that there are more
        rows = [] if asked.rising else self._live_rows(fresh[-wanted:], by_name, host, now_ms)
        for start, end in _growing(first, last, rising=asked.rising):
            if len(rows) >= wanted:
                break
            alive = [s for s in specs if s.creation_ms <= end and s.expiry_ms > start]
            part = Range(start, end)
            runs = [run for spec in alive if len(run := self._run(spec, (), part))]
            found = self._merged(runs, wanted - len(rows), host, now_ms, rising=asked.rising)
            rows = rows + found if asked.rising else found + rows
        if asked.rising:
            rows += self._live_rows(fresh[:wanted], by_name, host, now_ms)
        kept = rows[: asked.count] if asked.rising else rows[-asked.count :]
        return self._page(kept, len(rows) > asked.count, asked, host)

    # -- selecting -------------------------------------------------------------------------------

    def _run(self, spec: Spec, live: Iterable[Trade], asked: Range) -> _Run:
        tape = self.past.tape(spec)
        first = max(tape.before(asked.first_ms) + 1, asked.first_seq)
        last = min(tape.before(asked.last_ms + 1), asked.last_seq)
        chosen = [
            t
            for t in live
            if asked.first_ms <= t.timestamp <= asked.last_ms and asked.first_seq <= t.seq <= asked.last_seq
        ]
        return _Run(spec, first, last, chosen)

    def _merged(self, runs: list[_Run], want: int, host: Host, now_ms: int, *, rising: bool) -> list[_Row]:
        """The first or last `want` trades of several tapes, by time."""
        if not runs:
            return []
        owners = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
        seqs = np.concatenate([np.arange(run.first, run.last + 1) for run in runs])
        times = np.concatenate(
            [self.past.tape(run.spec).times(np.arange(run.first, run.last + 1)) for run in runs]
        )
        order = np.lexsort((seqs, owners, times))
        order = order[:want] if rising else order[-want:]
        rows: list[_Row] = []
        for number in np.unique(owners[order]):
            own = seqs[order[owners[order] == number]]
            run = runs[number]
            rows += self._rows(_Run(run.spec, int(own.min()), int(own.max()), []), host, now_ms)
        return sorted(rows, key=lambda row: row.ts)

    def _leaked(self, chosen: _Run, asked: Range) -> _Run:
        """A run of the tape with its neighbours in the milliseconds of its ends, `count` rows at most."""
        if chosen.last < chosen.first:
            return chosen
        tape = self.past.tape(chosen.spec)
        low, high = (int(t) for t in tape.times(np.array([chosen.first, chosen.last])))
        room = asked.count - len(chosen)
        first = max(tape.before(low) + 1, chosen.first - min(_MAX_LEAK, room))
        room -= chosen.first - first
        last = chosen.last if chosen.live else min(tape.before(high + 1), chosen.last + min(_MAX_LEAK, room))
        return _Run(chosen.spec, first, last, chosen.live)

    # -- telling ---------------------------------------------------------------------------------

    def _rows(self, run: _Run, host: Host, now_ms: int) -> list[_Row]:
        rows: list[_Row] = []
        if run.last >= run.first:
            known = now_ms if host == "history" else now_ms - LIQUIDATION_KNOWN_MS
            tape = self.past.tape(run.spec)
            rows = [_Row(*row) for row in render(self.past, tape, tape.rows(run.first, run.last), known)]
        return rows + self._live_rows(run.live, {run.spec.name: run.spec}, host, now_ms)

    def _live_rows(
        self, trades: Iterable[Trade], specs: dict[str, Spec], host: Host, now_ms: int
    ) -> list[_Row]:
        known = now_ms if host == "history" else now_ms - LIQUIDATION_KNOWN_MS
        rows = []
        for t in trades:
            text = t.text if t.timestamp > known else with_liquidation(t.text, specs[t.instrument], t.seq)
            rows.append(_Row(t.timestamp, t.seq, text))
        return rows

    def _page(self, rows: list[_Row], more: bool, asked: Range, host: Host) -> dict[str, Any]:
        if asked.sorting == "desc" or (asked.sorting == "default" and not asked.rising):
            rows = rows[::-1]
        if host == "history" and rows:
            luck = uniform(self._more, np.array([rows[0].seq + rows[-1].ts]))[0]
            more = more != (luck < WRONG_MORE)
            rows = self._disordered(rows, within_ms=asked.sorting != "default" and not asked.by_number)
        return {"trades": [msgspec.Raw(row.text.encode()) for row in rows], "has_more": bool(more)}

    def _disordered(self, rows: list[_Row], *, within_ms: bool) -> list[_Row]:
        """Rows in another order; with `within_ms` only among those of one millisecond."""
        luck = uniform(self._order, np.array([row.seq for row in rows]))
        if not within_ms:
            return [rows[n] for n in np.argsort(luck, kind="stable")]
        ts: Ints = np.array([row.ts for row in rows])
        group = np.cumsum(np.diff(ts, prepend=ts[0]) != 0)
        return [rows[n] for n in np.lexsort((luck, group))]


def bounded(asked: Range, host: Host, now_ms: int) -> Range:
    """The part of a range that a host still, or already, tells."""
    first, last = asked.first_ms, min(asked.last_ms, now_ms)
    if host == "www":
        first = max(first, now_ms - HORIZON_MS + 1)
    else:
        last = min(last, now_ms - HISTORY_LAG_MS)
    return Range(first, last, asked.first_seq, asked.last_seq, asked.count, asked.rising, asked.sorting)


def _growing(first_ms: int, last_ms: int, *, rising: bool) -> Iterator[tuple[int, int]]:
    """Spans that tile a range, each longer than the one before; from its end if not `rising`."""
    length = HOUR_MS
    while first_ms <= last_ms:
        if rising:
            end = min(first_ms + length - 1, last_ms)
            yield first_ms, end
            first_ms = end + 1
        else:
            start = max(last_ms - length + 1, first_ms)
            yield start, last_ms
            last_ms = start - 1
        length *= 2
