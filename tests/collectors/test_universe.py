"""The universe: what is recorded after listings, announcements, words of state, and time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.deribit.lifecycle import ENDING, LIVING, ROUTINE, StateChange, decode_lifecycle, is_lifecycle
from collectors.deribit.selection import Listing, decode_open_interest, in_part
from collectors.settings import CollectorSettings
from collectors.universe import CONFIRM_MS, SPACING_MS, UNKNOWN_MS, UNKNOWN_TRIES, Changes, Universe
from lake.errors import SchemaDriftError

T = 1_790_000_000_000
HOUR, MINUTE = 3_600_000, 60_000
GRACE = 5 * MINUTE
EXPIRY = T + 2 * HOUR
FOREVER = 32_503_708_800_000
PERP = Listing("BTC-PERPETUAL", "future", FOREVER, "perpetual")
OPTION = Listing("BTC-1JAN27-90000-C", "option", EXPIRY)
LATER = Listing("BTC-2JAN27-90000-C", "option", EXPIRY + 24 * HOUR)


def universe(*listings: Listing, **changes: Any) -> Universe:
    """A universe that has been told of `listings` at `T`, and whose first changes are applied."""
    made = Universe(CollectorSettings(**changes), T)
    assert made.relist_due_ms == T
    made.relist(listings, T, T)
    made.changes(T)
    return made


def test_the_first_listing_is_recorded_in_order_of_importance() -> None:
    made = Universe(CollectorSettings(), T)
    made.relist([LATER, OPTION, PERP], T, T)
    expected = (PERP.instrument_name, OPTION.instrument_name, LATER.instrument_name)
    assert made.changes(T) == Changes(subscribe=expected)
    assert made.changes(T) == Changes()
    assert made.relist_due_ms == T + HOUR


def test_an_expired_option_leaves_five_minutes_after_its_expiry() -> None:
    made = universe(PERP, OPTION)
    assert not made.changes(EXPIRY + GRACE - 1)
    assert made.changes(EXPIRY + GRACE) == Changes(drop=(OPTION.instrument_name,))
    assert made.recorded == {PERP.instrument_name}


@pytest.mark.parametrize("word", sorted(ENDING))
def test_a_word_of_an_end_leaves_after_the_grace_and_not_later_than_the_expiry_would(word: str) -> None:
    made = universe(PERP, OPTION)
    made.state(PERP.instrument_name, word, T + 1)
    assert not made.changes(T + GRACE)
    assert made.changes(T + 1 + GRACE).drop == (PERP.instrument_name,)
    made.state(OPTION.instrument_name, word, EXPIRY + 2000)
    assert made.changes(EXPIRY + GRACE).drop == (OPTION.instrument_name,)


@pytest.mark.parametrize("word", sorted(ROUTINE))
def test_settlements_and_locks_change_nothing(word: str) -> None:
    made = universe(PERP, OPTION)
    made.state(PERP.instrument_name, word, T + 1)
    assert not made.changes(EXPIRY)
    assert made.relist_due_ms == T + HOUR


@pytest.mark.parametrize("word", sorted(LIVING))
def test_what_comes_back_is_recorded_again_or_without_a_pause(word: str) -> None:
    made = universe(PERP, OPTION)
    made.state(PERP.instrument_name, "inactive", T)
    made.state(PERP.instrument_name, word, T + 1)
    assert not made.changes(T + GRACE)
    made.state(PERP.instrument_name, "inactive", T + GRACE)
    assert made.changes(T + 2 * GRACE).drop == (PERP.instrument_name,)
    made.state(PERP.instrument_name, word, T + 3 * GRACE)
    assert made.changes(T + 3 * GRACE).subscribe == (PERP.instrument_name,)


def test_a_word_nobody_knows_asks_the_listing() -> None:
    made = universe(PERP)
    made.state(PERP.instrument_name, "metamorphosis", T + MINUTE)
    assert not made.changes(T + MINUTE)
    assert made.relist_due_ms == T + MINUTE + UNKNOWN_MS


def test_an_announcement_is_recorded_at_once_and_needs_no_listing() -> None:
    made = universe(PERP)
    made.state(OPTION.instrument_name, "created", T + MINUTE)  # channels keep no order between each other
    assert made.relist_due_ms == T + MINUTE + UNKNOWN_MS
    made.created(OPTION, T + MINUTE + 1)
    assert made.changes(T + MINUTE + 1).subscribe == (OPTION.instrument_name,)
    made.relist([PERP], T + MINUTE, T + MINUTE + 2)  # asked for before it was announced
    assert made.relist_due_ms == T + MINUTE + 2 + HOUR
    assert not made.changes(T + HOUR)


def test_an_unknown_name_is_looked_up_within_seconds_and_not_for_ever() -> None:
    made = universe(PERP)
    now = T + MINUTE
    made.state(OPTION.instrument_name, "open", now)
    waits = []
    for _ in range(UNKNOWN_TRIES):
        waits.append(made.relist_due_ms - now)
        now = made.relist_due_ms
        made.relist([PERP], now, now)
    assert waits == [UNKNOWN_MS, *(SPACING_MS << tries for tries in range(UNKNOWN_TRIES - 1))]
    assert made.relist_due_ms == now + HOUR
    made.relist([PERP, OPTION], now, now)
    assert made.changes(now).subscribe == (OPTION.instrument_name,)


def test_names_that_nobody_wants_or_that_have_ended_ask_for_nothing() -> None:
    made = universe(PERP, name_pattern="BTC-.*")
    made.state("ETH-1JAN27-4000-C", "created", T)
    made.state("BTC-1DEC26-90000-C", "archivized", T)
    assert made.relist_due_ms == T + HOUR


def test_an_instrument_missing_from_one_listing_is_kept_and_from_two_is_left() -> None:
    made = universe(PERP, OPTION)
    made.relist([OPTION], T + HOUR, T + HOUR)
    assert made.relist_due_ms == T + HOUR + CONFIRM_MS
    made.relist([PERP, OPTION], T + HOUR + CONFIRM_MS, T + HOUR + CONFIRM_MS)
    assert not made.changes(T + HOUR + 2 * GRACE)
    for now in (T + HOUR + 2 * MINUTE, T + HOUR + 3 * MINUTE):
        made.relist([OPTION], now, now)
    assert made.changes(T + HOUR + 3 * MINUTE + GRACE).drop == (PERP.instrument_name,)


def test_an_empty_listing_is_a_failure_of_the_venue() -> None:
    made = universe(PERP, OPTION)
    for minute in range(1, 10):
        made.relist([], T + minute * MINUTE, T + minute * MINUTE)
        assert made.relist_due_ms == T + minute * MINUTE + CONFIRM_MS
    assert not made.changes(T + HOUR)


def test_what_the_venue_lists_after_its_expiry_goes_on_for_then_our_clock_is_wrong() -> None:
    now = EXPIRY + 24 * HOUR
    made = universe(PERP, OPTION)
    made.relist([PERP, OPTION], now, now)
    assert not made.changes(now + HOUR)
    made.relist([PERP], now + HOUR, now + HOUR)
    assert made.changes(now + HOUR + GRACE).drop == (OPTION.instrument_name,)


def test_an_inactive_listing_is_recorded_when_it_opens_and_left_when_it_closes() -> None:
    asleep = msgspec.structs.replace(PERP, is_active=False)
    made = universe(asleep, OPTION)
    assert made.recorded == {OPTION.instrument_name}
    made.state(PERP.instrument_name, "open", T + 1)
    assert made.changes(T + 1).subscribe == (PERP.instrument_name,)
    made.relist([asleep, OPTION], T + 2, T + 2)
    assert made.changes(T + 2 + GRACE).drop == (PERP.instrument_name,)


def test_the_largest_by_open_interest_are_recorded_and_ranked_anew() -> None:
    made = universe(PERP, OPTION, LATER, top_by_open_interest=1)
    assert made.currencies == ["BTC"]
    made.rank({OPTION.instrument_name: 5.0}, T)
    assert made.changes(T) == Changes((OPTION.instrument_name,), (PERP.instrument_name,))
    made.rank({OPTION.instrument_name: 5.0, LATER.instrument_name: 6.0}, T + HOUR)
    assert made.changes(T + HOUR) == Changes((LATER.instrument_name,), (OPTION.instrument_name,))
    assert made.rank_due_ms == T + 2 * HOUR


def test_open_interest_is_ranked_by_its_worth() -> None:
    rows = [
        {"instrument_name": "BTC-PERPETUAL", "open_interest": 5e8, "mark_price": 9e4},
        {"instrument_name": "BTC-1JAN27-90000-C", "open_interest": 10.0, "underlying_price": 9e4, "mark_price": 0.1},
        {"instrument_name": "SOL_USDC-PERPETUAL", "open_interest": 100.0, "mark_price": 150.0},
        {"instrument_name": "BTC-FS-25DEC26_PERP", "open_interest": None},
    ]  # fmt: skip
    worth = decode_open_interest(msgspec.Raw(msgspec.json.encode(rows)))
    assert list(worth.values()) == [5e8, 9e5, 15_000.0, 0.0]
    with pytest.raises(SchemaDriftError, match="get_book_summary"):
        decode_open_interest(msgspec.Raw(b'[{"open_interest":1}]'))


@given(names=st.sets(st.text(min_size=1), max_size=60), parts=st.integers(1, 9))
def test_parts_are_disjoint_and_together_all(names: set[str], parts: int) -> None:
    shares = [
        {name for name in names if in_part(name, CollectorSettings(shard=f"{part}/{parts}"))}
        for part in range(1, parts + 1)
    ]
    assert sum(map(len, shares)) == len(names)
    assert set().union(*shares) == names


def test_a_part_stays_the_same_and_parts_are_of_like_size() -> None:
    names = [
        f"BTC-{day}JAN27-{strike}-{kind}" for day in range(1, 29) for strike in range(50, 90) for kind in "CP"
    ]
    sizes = [sum(in_part(n, CollectorSettings(shard=f"{part}/3")) for n in names) for part in (1, 2, 3)]
    assert sum(sizes) == len(names)
    assert max(sizes) < 1.1 * min(sizes)
    known = {"BTC-PERPETUAL": 3, "ETH-PERPETUAL": 1, "BTC-1JAN27-90000-C": 3, "XRP_USDC-30JUN23-0d625-C": 3}
    for name, part in known.items():  # another hash would move instruments between running collectors
        assert in_part(name, CollectorSettings(shard=f"{part}/3"))


_CALLS = st.lists(
    st.tuples(
        st.sampled_from(["relist", "created", "state", "wait"]),
        st.sets(st.sampled_from([PERP, OPTION, LATER]), max_size=3),
        st.sampled_from(sorted(LIVING | ROUTINE | ENDING)),
        st.integers(0, 4 * HOUR),
    ),
    max_size=30,
)


@given(calls=_CALLS)
def test_whatever_happens_changes_add_up_and_nothing_dies_before_its_grace(calls: Any) -> None:
    made, now = Universe(CollectorSettings(), T), T
    recorded: set[str] = set()
    told: dict[str, int] = {}
    for what, listings, word, wait in calls:
        now += wait
        for listing in listings:
            if what == "created":
                made.created(listing, now)
            elif what == "state":
                made.state(listing.instrument_name, word, now)
            if what in ("relist", "created"):
                told[listing.instrument_name] = now
        if what == "relist":
            made.relist(listings, now, now)
        changes = made.changes(now)
        assert not recorded.intersection(changes.subscribe)
        assert recorded.issuperset(changes.drop)
        recorded = recorded.union(changes.subscribe).difference(changes.drop)
        assert recorded == made.recorded
        for listing in listings:
            if what in ("relist", "created"):
                assert listing.instrument_name in recorded
    assert made.relist_due_ms <= now + HOUR


def test_lifecycle_frames_are_told_from_all_others_and_read() -> None:
    creation = (
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"instrument.creation.any.any","data":'
        b'{"instrument_name":"BTC-PERPETUAL","kind":"future","settlement_period":"perpetual","is_active":true,'
        b'"expiration_timestamp":32503708800000}}}'
    )
    state = (
        b'{"params":{"data":{"timestamp":1,"state":"open","instrument_name":"BTC-PERPETUAL"},"channel":'
        b'"instrument.state.future.any"},"method":"subscription","jsonrpc":"2.0"}'
    )
    ticker = creation.replace(b"instrument.creation.any.any", b"ticker.BTC-PERPETUAL.100ms")
    assert [is_lifecycle(frame) for frame in (creation, state, ticker)] == [True, True, False]
    assert decode_lifecycle(creation) == PERP
    assert decode_lifecycle(state) == StateChange("BTC-PERPETUAL", "open")
    assert decode_lifecycle(ticker) is None
    for damaged in (creation.replace(b'"kind"', b'"knid"'), state[:-9]):
        with pytest.raises(SchemaDriftError):
            decode_lifecycle(damaged)
