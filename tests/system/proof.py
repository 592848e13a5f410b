"""The proof of a lake against its venue's own account: what was sent, what was kept back, and what `gaps` says of it.

Nothing here uses the collector's judgement. The venue's account says which frames it handed to which session and
which a fault kept back; the spool says which bytes came when, over which connection; the tables say what a reader
finds. Four claims are checked:

1. Every frame of a table's channel that the venue had for a connection, and the lake has not, lies in a row of
   `gaps` that names its time, and its connection, channel or instrument. What no protocol could notice is excused:
   tickers carry no number, so a pause of a connection counts from `SILENCE_S` on; and a lost change of a book is
   noticed at the next one of the same session, so the last is not.
2. Every row that is not healed has a reason: a frame that is lacking, or a time in which nothing could come. It ends
   within a bound of that reason.
3. Every book built from `book` is the venue's own, at every instant that was asked for outside the rows of `gaps`.
4. `trades` has every trade_seq of every instrument from the first to the newest, but for a newest one that was lost
   all by itself: that shows with the next.
"""

from __future__ import annotations

import bisect
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from collectors.simulator import Sent, read_account
from collectors.simulator.account import frame_hash
from lake.root import Root
from lake.views import query
from tests.system import kit
from tests.system.kit import Record

S: Final = 1_000_000_000
SILENCE_S: Final = 10.0
"""From here on, and the time of a delivery, a pause of a whole connection must be on record: ten seconds, and the
rhythm of looking."""
DELIVERY_S: Final = 1.0
"""Longest way of a frame from the venue's hand into the spool, unless it took longer: see `Case.delivery_ns`."""
RESYNC_S: Final = 30.0
"""Longest time from a book's last lacking change to its snapshot: one attempt in vain, ten seconds, a second one."""
RESUBSCRIBE_S: Final = 30.0
"""Longest time from the first frame of a new session to the last of its subscriptions."""
TABLES: Final = ("ticker", "book", "trades", "perpetual", "deribit_")
OF_CONNECTIONS: Final = ("disconnect", "crashed", "stopped")


@dataclass(frozen=True)
class Claim:
    """A row of `gaps`; times in ns."""

    start_ns: int
    end_ns: int
    cause: str
    connection: int | None
    channel: str | None
    instrument: str | None
    healed: bool
    records_lost: int | None
    delivery_ns: float

    def holds(self, at_ns: int, channel: str, connection: int | None) -> bool:
        """Whether it speaks of a frame of `channel` that the venue sent at `at_ns`."""
        return (
            self.start_ns - self.delivery_ns <= at_ns <= self.end_ns + 1_000
            and self.channel in (None, channel)
            and (
                self.instrument is None or f".{self.instrument}." in channel or channel.startswith("trades.")
            )
            and (self.connection is None or connection in (None, self.connection))
        )


@dataclass(frozen=True)
class Truth:
    """A book as the venue had it: asked for between two moments."""

    before_ns: int
    after_ns: int
    instrument: str
    change_id: int
    levels: Mapping[tuple[str, float], float]


@dataclass
class Verdict:
    """What was found, and how much was looked at."""

    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class Case:
    """A lake, the account of its venue, and what was asked meanwhile."""

    root: Root
    account: Path
    truths: Sequence[Truth]
    newest_trades: Mapping[str, int]

    @cached_property
    def sent(self) -> list[Sent]:
        """The frames of channels with a table."""
        return [s for s in read_account(self.account) if s.channel and s.channel.startswith(TABLES)]

    @cached_property
    def records(self) -> list[Record]:
        return kit.records(self.root)

    @cached_property
    def hashes(self) -> dict[str, Record]:
        """The first record of each frame."""
        found: dict[str, Record] = {}
        for record in self.records:
            if record.is_frame:
                found.setdefault(frame_hash(record.payload), record)
        return found

    @cached_property
    def connection_of(self) -> dict[int, int]:
        """The collector's connection behind each session of the venue."""
        votes: dict[int, Counter[int]] = defaultdict(Counter)
        for sent in self.sent:
            record = None if sent.withheld else self.hashes.get(sent.hash)
            if record is not None:
                votes[sent.session][record.connection] += 1
        return {session: count.most_common(1)[0][0] for session, count in votes.items()}

    @cached_property
    def session_of(self) -> dict[str, int]:
        """The session to which a frame was sent first."""
        found: dict[str, int] = {}
        for sent in self.sent:
            if not sent.withheld:
                found.setdefault(sent.hash, sent.session)
        return found

    @cached_property
    def delivery_ns(self) -> float:
        """How long a frame was on its way at most, but for the few that a fault held up; more on a busy machine."""
        took = sorted(
            record.recv_ns - sent.sent_ns
            for sent in self.sent
            if not sent.withheld and (record := self.hashes.get(sent.hash)) is not None
        )
        return max(DELIVERY_S * S, took[len(took) * 99 // 100] if took else 0.0)

    @cached_property
    def claims(self) -> list[Claim]:
        return [
            Claim(
                kit.micros(row["start_ts"]) * 1000, kit.micros(row["end_ts"]) * 1000, row["cause"],
                row["connection"], row["channel"], row["instrument"], row["healed"], row["records_lost"],
                self.delivery_ns,
            )
            for row in query(self.root, "SELECT * FROM gaps ORDER BY start_ts, end_ts").to_pylist()
        ]  # fmt: skip

    @cached_property
    def trades(self) -> dict[str, set[int]]:
        rows = query(self.root, "SELECT instrument, trade_seq FROM trades").to_pylist()
        found: dict[str, set[int]] = defaultdict(set)
        for row in rows:
            found[row["instrument"]].add(row["trade_seq"])
        return found

    @cached_property
    def lacking(self) -> list[Sent]:
        """What the venue had for a session, and the lake has not in any form."""
        return [
            sent
            for sent in self.sent
            if sent.hash not in self.hashes and not self._is_replaced(sent) and not self._has_trades(sent)
        ]

    @cached_property
    def sessions_of(self) -> dict[str, list[tuple[int, int]]]:
        """By channel: the sessions that brought it, each with the receive time of its first frame."""
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        seen: set[tuple[int, str]] = set()
        for sent in self.sent:
            key = sent.session, str(sent.channel)
            record = None if sent.withheld or key in seen else self.hashes.get(sent.hash)
            if record is not None:
                seen.add(key)
                found[key[1]].append((record.recv_ns, sent.session))
        return found

    @cached_property
    def connections_of(self) -> dict[str, set[int]]:
        """By channel: the collector's connections that brought it."""
        return {
            channel: {self.connection_of[session] for _, session in sessions if session in self.connection_of}
            for channel, sessions in self.sessions_of.items()
        }

    @cached_property
    def last_recorded(self) -> dict[tuple[int, str], int]:
        """By session and channel: place in the account of the last frame that came."""
        return {
            (s.session, str(s.channel)): s.n for s in self.sent if not s.withheld and s.hash in self.hashes
        }

    @cached_property
    def unnoticeable(self) -> set[tuple[str, int]]:
        """Channel and number of changes that are lacking, and that nothing on the wire shows to be."""
        return {
            (str(s.channel), s.seq)
            for s in self.sent
            if str(s.channel).startswith("book.")
            and s.hash not in self.hashes
            and s.n > self.last_recorded.get((s.session, str(s.channel)), -1)
        }

    def _is_replaced(self, sent: Sent) -> bool:
        """Whether the collector had hung up long ago: a half-open venue cannot know, and talks on to nobody."""
        sessions = self.sessions_of[str(sent.channel)]
        return sent.withheld and any(
            at_ns <= sent.sent_ns and session > sent.session for at_ns, session in sessions
        )

    def _has_trades(self, sent: Sent) -> bool:
        if not str(sent.channel).startswith("trades.") or sent.payload is None:
            return False
        told = json.loads(sent.payload)["params"]["data"]
        return all(trade["trade_seq"] in self.trades[trade["instrument_name"]] for trade in told)

    @cached_property
    def arrivals(self) -> dict[int, list[tuple[int, str]]]:
        """By connection: receive time and hash of every frame of data, in order."""
        found: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for record in self.records:
            if record.is_tick:
                found[record.connection].append((record.recv_ns, frame_hash(record.payload)))
        return found

    def between(self, connection: int, start_ns: int, end_ns: int) -> list[tuple[int, str]]:
        """What came over a connection strictly between two moments."""
        found = self.arrivals[connection]
        first = bisect.bisect_right(found, (start_ns + 1_000, "~"))
        return found[first : bisect.bisect_left(found, (end_ns - 1_000, ""))]


def prove(case: Case) -> Verdict:
    """Check all four claims."""
    verdict = Verdict()
    verdict.problems += _uncovered(case, verdict.counts)
    verdict.problems += _unfounded(case, verdict.counts)
    verdict.problems += _wrong_books(case, verdict.counts)
    verdict.problems += _uneven_trades(case, verdict.counts)
    return verdict


# -- 1. nothing is lacking in silence


def _uncovered(case: Case, counts: Counter[str]) -> Iterator[str]:
    claims = [claim for claim in case.claims if not (claim.healed and claim.records_lost)]
    for sent in case.lacking:
        connection, channel = case.connection_of.get(sent.session), str(sent.channel)
        counts["frames lacking"] += 1
        if any(claim.holds(sent.sent_ns, channel, connection) for claim in claims):
            counts["frames lacking, on record"] += 1
        elif _is_unnoticeable(case, sent, connection):
            counts["frames lacking that no protocol shows"] += 1
        else:
            what = "withheld" if sent.withheld else "sent"
            yield f"{channel} {sent.seq} {what} at {sent.sent_ns} to session {sent.session}: lacking, and in no gap"


def _is_unnoticeable(case: Case, sent: Sent, connection: int | None) -> bool:
    channel = str(sent.channel)
    if not channel.startswith(("book.", "trades.")):
        if connection is None:
            return False
        found = case.arrivals[connection]
        at = bisect.bisect_left(found, (sent.sent_ns, ""))
        before = found[at - 1][0] if at else sent.sent_ns
        after = found[at][0] if at < len(found) else found[-1][0]
        return after - before < SILENCE_S * S + case.delivery_ns
    return sent.n > case.last_recorded.get((sent.session, channel), -1)


# -- 2. nothing is claimed without a reason


def _unfounded(case: Case, counts: Counter[str]) -> Iterator[str]:
    healed = {(c.cause, c.connection, c.channel, c.instrument, c.start_ns) for c in case.claims if c.healed}
    for claim in case.claims:
        counts[f"gaps: {claim.cause}{', healed' if claim.healed else ''}"] += 1
        key = (claim.cause, claim.connection, claim.channel, claim.instrument, claim.start_ns)
        if claim.healed or key in healed:
            continue
        fault = _fault_of(case, claim)
        if fault:
            yield f"{claim}: {fault}"


def _fault_of(case: Case, claim: Claim) -> str | None:
    """What is wrong with a claim that is not healed."""
    if claim.channel is None and claim.cause in OF_CONNECTIONS:
        return _fault_of_connection(case, claim)
    if claim.cause == "not_subscribed":
        end_ns = (
            claim.end_ns - claim.delivery_ns
        )  # the acknowledgement is under way, and data right behind it
        told = [s for s in case.sent if s.channel == claim.channel and claim.start_ns < s.sent_ns < end_ns]
        return "the venue sent something" if any(not s.withheld for s in told) else None
    inside = [
        sent
        for sent in case.lacking
        if claim.holds(sent.sent_ns, str(sent.channel), case.connection_of.get(sent.session))
    ]
    if not inside:
        return "nothing is lacking"
    if claim.cause == "silence":
        came = case.between(claim.connection or 0, claim.start_ns, claim.end_ns)
        channels = {str(case_channel(case, frame)) for _, frame in came}
        return (
            "it was not silent"
            if (channels if claim.channel is None else claim.channel in channels)
            else None
        )
    if claim.cause == "book_break":
        late_s = (claim.end_ns - max(sent.sent_ns for sent in inside)) / S
        return f"it ended {late_s:.1f} s after the last lacking change" if late_s > RESYNC_S else None
    return "the venue has these trades still"


def case_channel(case: Case, hashed: str) -> str:
    """The channel of a recorded frame."""
    message = json.loads(case.hashes[hashed].payload)
    return str(message["params"]["channel"])


def _fault_of_connection(case: Case, claim: Claim) -> str | None:
    """Whatever came meanwhile must be of another session than what came before, and not for long."""
    connection = claim.connection or 0
    found = case.arrivals[connection]
    at = bisect.bisect_right(found, (claim.start_ns + 1_000, "~")) - 1
    before = [
        case.session_of[frame] for _, frame in found[max(at - 50, 0) : at + 1] if frame in case.session_of
    ]
    came = case.between(connection, claim.start_ns, claim.end_ns)
    sessions = {case.session_of[frame] for _, frame in came if frame in case.session_of}
    if before and before[-1] in sessions:
        return f"session {before[-1]} went on"
    if came and claim.end_ns - came[0][0] > RESUBSCRIBE_S * S and len(sessions) == 1:
        return f"data came {(claim.end_ns - came[0][0]) / S:.1f} s before its end"
    return None


# -- 3. the books


def _wrong_books(case: Case, counts: Counter[str]) -> Iterator[str]:
    rows = query(case.root, "SELECT * FROM book ORDER BY instrument, change_id, type, level").to_pylist()
    books: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        books[row["instrument"]].append(row)
    for truth in case.truths:
        channel = f"book.{truth.instrument}.100ms"
        connections = case.connections_of.get(channel, set())
        if any(_overlaps(claim, truth, channel, connections) for claim in case.claims):
            counts["books asked for within gaps"] += 1
            continue
        told = books.get(truth.instrument, [])
        if not told or kit.micros(min(row["recv_ts"] for row in told)) * 1000 > truth.before_ns:
            counts["books asked for before they were recorded"] += 1
            continue
        reached, levels = _rebuilt(told, truth.change_id)
        if reached != truth.change_id and (channel, truth.change_id) in case.unnoticeable:
            counts["books asked for after a change that no protocol shows to be lost"] += 1
            continue
        counts["books compared"] += 1
        if reached != truth.change_id or levels != dict(truth.levels):
            yield f"{channel} at {truth.before_ns}: at change {reached} of {truth.change_id}, or other levels"


def _overlaps(claim: Claim, truth: Truth, channel: str, connections: set[int]) -> bool:
    return (
        claim.start_ns - claim.delivery_ns <= truth.after_ns
        and claim.end_ns >= truth.before_ns - claim.delivery_ns
        and claim.channel in (None, channel)
        and claim.instrument in (None, truth.instrument)
        and (claim.connection is None or claim.connection in connections)
    )


def _rebuilt(rows: list[dict[str, Any]], change_id: int) -> tuple[int | None, dict[tuple[str, float], float]]:
    """The book after the message `change_id`, from its last snapshot on; and the last message there was."""
    rows = [row for row in rows if row["change_id"] <= change_id]
    starts = [row["change_id"] for row in rows if row["type"] == "snapshot"]
    if not starts:
        return None, {}
    reached, levels = starts[-1], {}  # type: tuple[int, dict[tuple[str, float], float]]
    for row in rows:
        is_start = row["type"] == "snapshot" and row["change_id"] == starts[-1]
        if not is_start and row["change_id"] <= starts[-1]:
            continue
        reached = row["change_id"]
        if row["action"] == "delete":
            levels.pop((row["side"], row["price"]), None)
        elif row["action"]:
            levels[row["side"], row["price"]] = row["size"]
    return reached, levels


# -- 4. the trades


def _uneven_trades(case: Case, counts: Counter[str]) -> Iterator[str]:
    for instrument, held in case.trades.items():
        counts["trades"] += len(held)
        missing = set(range(min(held), max(held) + 1)) - held
        if missing:
            yield f"{instrument}: {len(missing)} trades are missing, first {min(missing)}"
        for seq in range(max(held) + 1, case.newest_trades.get(instrument, 0) + 1):
            if _was_lost_alone(case, instrument, seq):
                counts["newest trades that nothing shows to be lost"] += 1
            else:
                yield f"{instrument}: trades end at {max(held)}, the venue had {seq}"


def _was_lost_alone(case: Case, instrument: str, seq: int) -> bool:
    """Whether a fault kept this trade back, at a time for which no gap of trades is on record."""
    told = [sent for sent in case.lacking if (instrument, seq) in _numbers(sent)]
    return bool(told) and not any(
        claim.holds(sent.sent_ns, str(sent.channel), case.connection_of.get(sent.session))
        for sent in told
        for claim in case.claims
        if claim.instrument is None
    )


def _numbers(sent: Sent) -> set[tuple[str, int]]:
    if not str(sent.channel).startswith("trades.") or sent.payload is None:
        return set()
    told = json.loads(sent.payload)["params"]["data"]
    return {(trade["instrument_name"], trade["trade_seq"]) for trade in told}
