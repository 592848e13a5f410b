"""What a stream lacks when its collector starts again, told from what the last life left."""

from __future__ import annotations

from pathlib import Path

from collectors.aftermath import SUBSCRIBING_MAX_NS, unrecorded
from collectors.deribit.session import STOPPED, Unrecorded
from lake.events import Connected, Disconnected, Event, Gap, SessionStarted, encode_event
from lake.spool import RecordKind, SpoolWriter

URL = "ws://venue"
TICK = (
    b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.BTC-PERPETUAL.100ms","data":{}}}'
)
CREATED_NS = 1_789_344_931_000_000_000
Told = tuple[int, int, Event | bytes]


def at(step: int) -> int:
    return CREATED_NS + step * 1_000


def started(step: int, since: int | None = None, cause: str | None = None) -> Told:
    event = SessionStarted(
        at_ns=at(step),
        collector="deribit",
        version="1",
        unrecorded_since_ns=None if since is None else at(since),
        unrecorded_cause=cause,
    )
    return (step, 0, event)


def lost(step: int, connection: int, reason: str = "1006") -> Told:
    return (step, connection, Disconnected(connection=connection, at_ns=at(step), url=URL, reason=reason))


def told(step: int, connection: int, since: int) -> Told:
    gap = Gap(start_ns=at(since), end_ns=at(step + 1), cause="crashed", connection=connection)
    return (step, connection, gap)


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
    found = lacking(tmp_path, started(1), (2, 1, TICK), started(3, since=2, cause="stopped"), (4, 1, b"{}"))
    assert found == Unrecorded(at(2), "crashed")


def test_frames_before_the_gap_was_told_do_not_close_it(tmp_path: Path) -> None:
    with_frames = (started(1), (2, 1, TICK), started(3, since=2), (4, 1, TICK))
    assert lacking(tmp_path / "a", *with_frames) == Unrecorded(at(2), "crashed")
    closed = (*with_frames[:3], told(4, 1, since=2), (5, 1, TICK))
    assert lacking(tmp_path / "b", *closed) == Unrecorded(at(5), "crashed")


def test_lost_connection_lacks_what_came_since_its_own_last_frame(tmp_path: Path) -> None:
    life = (started(1), (2, 1, TICK), (3, 2, TICK), lost(4, 1), (5, 2, TICK), (6, 1, TICK))
    assert lacking(tmp_path, *life) == Unrecorded(at(6), "crashed", {1: at(2)})


def test_only_the_connection_whose_gap_was_told_is_through_with_it(tmp_path: Path) -> None:
    life = (started(3, since=2), told(4, 1, since=2), (5, 1, TICK), (6, 2, TICK))
    assert lacking(tmp_path, started(1), (2, 1, TICK), *life) == Unrecorded(at(6), "crashed", {2: at(2)})


def test_data_that_flowed_for_long_is_not_followed_to_its_beginning(tmp_path: Path) -> None:
    late = SUBSCRIBING_MAX_NS // 1_000
    life = (started(3, since=2), (4, 1, TICK), (5, 1, TICK), (late + 6, 1, TICK))
    assert lacking(tmp_path, started(1), (2, 1, TICK), *life) == Unrecorded(at(late + 6), "crashed")


def test_connection_that_was_closed_on_purpose_was_not_lost(tmp_path: Path) -> None:
    life = (started(1), (2, 1, TICK), lost(3, 1, STOPPED))
    assert lacking(tmp_path, *life) == Unrecorded(at(3), "crashed")
