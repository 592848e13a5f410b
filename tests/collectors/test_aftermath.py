"""What a stream lacks when its collector starts again, told from what the last life left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from collectors.aftermath import unrecorded
from collectors.deribit.session import STOPPED, Unrecorded
from collectors.trade_healing import is_to_heal
from lake.events import (
    Connected,
    Disconnected,
    Event,
    Gap,
    GapOpened,
    GapsOpen,
    GapWithdrawn,
    SessionStarted,
    encode_event,
)
from lake.spool import PreviousLife, RecordKind, SpoolWriter

URL = "ws://venue"
BOOK = "book.BTC-PERPETUAL.100ms"
TICK = (
    b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.BTC-PERPETUAL.100ms","data":{}}}'
)
CREATED_NS = 1_789_344_931_000_000_000
Told = tuple[int, int, Event | bytes]


def at(step: int) -> int:
    return CREATED_NS + step * 1_000


def started(
    step: int, since: int | None = None, cause: str | None = None, left: Sequence[GapOpened] = ()
) -> Told:
    event = SessionStarted(
        at_ns=at(step),
        collector="deribit",
        version="1",
        unrecorded_since_ns=None if since is None else at(since),
        unrecorded_cause=cause,
        open_gaps=list(left),
    )
    return (step, 0, event)


def opened(since: int, connection: int, cause: str = "disconnect", channel: str | None = None) -> GapOpened:
    return GapOpened(start_ns=at(since), cause=cause, connection=connection, channel=channel)


def closed(step: int, gap: GapOpened) -> Told:
    told = Gap(start_ns=gap.start_ns, end_ns=at(step), cause=gap.cause, connection=gap.connection,
               channel=gap.channel)  # fmt: skip
    return (step, gap.connection or 0, told)


def stated(step: int, *gaps: GapOpened) -> Told:
    return (step, 0, GapsOpen(at_ns=at(step), gaps=list(gaps)))


def lacking(folder: Path, *life: Told) -> Unrecorded | None:
    """Record a life, each part in a segment of its own where it is a None; then ask as the next one does."""
    with SpoolWriter(folder / "deribit") as spool:
        for step, connection, what in life:
            if isinstance(what, bytes):
                spool.append(what, connection=connection, recv_ns=at(step))
            else:
                spool.append(
                    encode_event(what), connection=connection, kind=RecordKind.EVENT, recv_ns=at(step)
                )
            spool.rotate()
            spool.flush()
    (folder / "deribit" / "closed.json").unlink()  # it was not closed but killed
    with SpoolWriter(folder / "deribit") as spool:
        return unrecorded(folder / "deribit", spool.previous)


def test_new_stream_lacks_nothing(tmp_path: Path) -> None:
    assert unrecorded(tmp_path, None) is None


def test_data_flowed_to_the_end(tmp_path: Path) -> None:
    assert lacking(tmp_path, started(1), (2, 1, TICK), (3, 1, TICK)) == Unrecorded(at(3), "crashed")


def test_first_life_without_any_frame_began_the_gap(tmp_path: Path) -> None:
    connected = Connected(connection=1, at_ns=at(2), url=URL)
    assert lacking(tmp_path, started(1), (2, 1, connected)) == Unrecorded(at(1), "crashed")


def test_life_without_any_frame_hands_on_the_gap_it_was_to_close(tmp_path: Path) -> None:
    life = (started(1), (2, 1, TICK), started(3, since=2, cause="stopped"), (4, 1, b"{}"))
    assert lacking(tmp_path / "a", *life) == Unrecorded(at(2), "crashed")
    dealt = stated(4, opened(2, 1, "stopped"), opened(2, 2, "stopped"))
    found = lacking(tmp_path / "b", *life[:3], dealt, (5, 1, b"{}"))
    assert found == Unrecorded(at(5), "crashed", {1: at(2), 2: at(2)})


def test_frames_before_the_gap_was_told_do_not_close_it(tmp_path: Path) -> None:
    gap = opened(2, 1, "crashed")
    with_frames = (started(1), (2, 1, TICK), started(3, since=2), stated(4, gap), (5, 1, TICK))
    assert lacking(tmp_path / "a", *with_frames) == Unrecorded(at(5), "crashed", {1: at(2)})
    assert lacking(tmp_path / "b", *with_frames, closed(6, gap), (7, 1, TICK)) == Unrecorded(at(7), "crashed")


def test_gap_that_was_told_is_closed_whether_or_not_its_first_frame_got_to_the_disk(tmp_path: Path) -> None:
    gap = opened(2, 1, "crashed")
    life = (started(1), (2, 1, TICK), started(3, since=2), stated(4, gap), closed(5, gap))
    assert lacking(tmp_path, *life) == Unrecorded(at(5), "crashed")


def test_loss_outlives_a_life_that_ended_before_its_connections_were_dealt(tmp_path: Path) -> None:
    first = (started(1), (2, 1, TICK), started(3, since=2), stated(4, opened(2, 1, "crashed")), (5, 1, b"{}"))
    left = lacking(tmp_path / "a", *first)
    assert left == Unrecorded(at(5), "crashed", {1: at(2)})
    second = (*first, started(6, since=5, cause="crashed", left=left.open_gaps))
    assert lacking(tmp_path / "b", *second) == left
    assert lacking(tmp_path / "c", *second, started(7, 5, "crashed", left.open_gaps), (8, 0, b"{}")) == left


def test_lost_connection_lacks_what_came_since_its_own_last_frame(tmp_path: Path) -> None:
    life = (started(1), (2, 1, TICK), (3, 2, TICK), (4, 1, opened(2, 1)), (5, 2, TICK), (6, 1, TICK))
    assert lacking(tmp_path, *life) == Unrecorded(at(6), "crashed", {1: at(2)})


def test_only_the_connection_whose_gap_was_told_is_through_with_it(tmp_path: Path) -> None:
    one, two = opened(2, 1, "crashed"), opened(2, 2, "crashed")
    life = (started(3, since=2), stated(4, one, two), closed(5, one), (6, 1, TICK), (7, 2, TICK))
    assert lacking(tmp_path, started(1), (2, 1, TICK), *life) == Unrecorded(at(7), "crashed", {2: at(2)})


def test_a_statement_is_as_far_back_as_need_be_read(tmp_path: Path) -> None:
    lost, book = opened(2, 1), opened(3, 2, "book_break", BOOK)
    life = (
        started(1),
        (2, 1, TICK),
        stated(4, lost, book),
        (5, 2, TICK),
        stated(6, lost, book),
        (7, 2, TICK),
    )
    whole = lacking(tmp_path, *life)
    assert whole == Unrecorded(at(7), "crashed", {1: at(2)}, (replace(book, end_ns=at(7)),))
    oldest = sorted((tmp_path / "deribit").glob("*.seg"))[:4]
    for segment in oldest:
        segment.write_bytes(b"")  # it is not looked at
    assert unrecorded(tmp_path / "deribit", PreviousLife(at(7), clean=False)) == whole


def test_holes_of_a_channel_end_with_the_life_and_trades_are_handed_on(tmp_path: Path) -> None:
    book, silent, mended = (
        opened(n, 1, cause, BOOK) for n, cause in ((2, "book_break"), (3, "silence"), (4, "x"))
    )
    away = GapOpened(
        start_ns=at(2), end_ns=at(3), cause="disconnect", connection=1, channel="trades.any.any.100ms"
    )
    trades = GapOpened(
        start_ns=at(2), end_ns=at(4), cause="missing_trades", connection=1, first_seq=7, last_seq=9
    )
    still = opened(4, 1, "silence", "trades.option.any.100ms")
    openings = [(5, 1, gap) for gap in (book, silent, mended, away, trades, still)]
    withdrawn = GapWithdrawn(start_ns=mended.start_ns, cause=mended.cause, connection=1, channel=BOOK)
    life = (started(1), (2, 1, TICK), *openings, (6, 1, withdrawn), (7, 1, TICK))
    ended = (replace(book, end_ns=at(7)), replace(silent, end_ns=at(7)))
    to_heal = (away, trades, replace(still, end_ns=at(7)))
    assert [is_to_heal(gap) for gap in (*ended, *to_heal)] == [False, False, True, True, True]
    assert lacking(tmp_path / "a", *life) == Unrecorded(at(7), "crashed", {}, (*ended, *to_heal))
    # The life that was to close them died before it could: their ends stay what they were.
    heir = started(8, since=7, cause="crashed", left=(*ended, *to_heal))
    assert lacking(tmp_path / "b", *life, heir) == Unrecorded(at(7), "crashed", {}, (*ended, *to_heal))
    over = closed(9, ended[0])
    assert lacking(tmp_path / "c", *life, heir, over) == Unrecorded(
        at(7), "crashed", {}, (ended[1], *to_heal)
    )


def test_connection_that_was_closed_on_purpose_was_not_lost(tmp_path: Path) -> None:
    lost = Disconnected(connection=1, at_ns=at(3), url=URL, reason=STOPPED)
    assert lacking(tmp_path, started(1), (2, 1, TICK), (3, 1, lost)) == Unrecorded(at(3), "crashed")
