"""Which channels are silent against their own habit, and of which somebody else must say so."""

from __future__ import annotations

import pytest

from collectors.continuity import S_IN_NS
from collectors.silence import ARRIVALS_KEPT, HABIT_S, PAUSE_KEPT_S, Judged, Quiet, Silence, Silent, Still

NOTHING = Judged([], [], [])


def nobody(channel: str) -> bool:
    """The venue cannot be asked about any channel."""
    return False


def speak(silence: Silence, channel: str, pause_s: float, end_ns: int) -> None:
    """So many frames, and for so long, that the channel's habit is known, the last at `end_ns`."""
    for n in range(max(ARRIVALS_KEPT, int(HABIT_S / pause_s) + 1), -1, -1):
        assert silence.heard(channel, end_ns - int(n * pause_s * S_IN_NS)) is None


def awake(channel: str) -> int | None:
    """No reason to rest."""
    del channel
    return None


def test_a_liquid_channel_is_silent_after_ten_seconds_and_a_quiet_one_never() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "quiet", 5.0, start)
    speak(silence, "liquid", 0.1, start)
    silence.heard("quiet", start + 8 * S_IN_NS)
    assert silence.check(start + 10 * S_IN_NS, awake, nobody) == NOTHING
    assert silence.check(start + 11 * S_IN_NS, awake, nobody) == ([Quiet("liquid", start)], [], [])
    assert not silence.heard("quiet", start + 12 * S_IN_NS)
    until = start + 13 * S_IN_NS
    assert silence.heard("liquid", until) == [Silent("liquid", start, until)]
    begun = silence.check(start + 3600 * S_IN_NS, awake, nobody).begun
    assert begun == [Quiet(None, until)], "now all are silent, which is one silence"
    assert silence.interrupted(start + 3601 * S_IN_NS) == [Silent(None, until, start + 3601 * S_IN_NS)]
    assert silence.check(start + 3700 * S_IN_NS, awake, nobody) == NOTHING


def test_patience_grows_with_the_pauses_a_channel_is_used_to() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "lively", 0.9, start)
    silence.heard("other", start + 20 * S_IN_NS)
    assert silence.check(start + 26 * S_IN_NS, awake, nobody) == NOTHING
    assert len(silence.check(start + 28 * S_IN_NS, awake, nobody)[0]) == 1


def test_a_burst_makes_no_habit_but_a_connection_that_falls_silent_after_it_is_noticed() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    for n in range(100):
        silence.heard("restless", start + n * S_IN_NS // 10)
    last = start + 99 * S_IN_NS // 10
    silence.heard("other", last + 25 * S_IN_NS)
    assert silence.check(last + 30 * S_IN_NS, awake, nobody) == NOTHING, "others speak, and it is new"
    assert silence.check(last + 36 * S_IN_NS, awake, nobody) == ([Quiet(None, last + 25 * S_IN_NS)], [], [])


def speak_on(silence: Silence, channel: str, start_ns: int, end_ns: int) -> None:
    """A frame every tenth of a second."""
    for at_ns in range(start_ns, end_ns + 1, S_IN_NS // 10):
        silence.heard(channel, at_ns)


def test_a_channel_is_used_to_three_times_its_longest_pause_of_the_last_hour() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "restless", 0.1, start)
    last = start + 100 * S_IN_NS
    speak_on(silence, "restless", start + 20 * S_IN_NS, last)
    silence.heard("other", last + 55 * S_IN_NS)
    assert silence.check(last + 59 * S_IN_NS, awake, nobody) == NOTHING
    assert silence.check(last + 61 * S_IN_NS, awake, nobody) == ([Quiet("restless", last)], [], [])
    silence.heard("restless", last + 61 * S_IN_NS)
    later = last + 3700 * S_IN_NS
    speak_on(silence, "restless", last + 62 * S_IN_NS, later)
    speak_on(silence, "restless", later + 2 * S_IN_NS, later + 10 * S_IN_NS)
    silence.heard("other", later + 20 * S_IN_NS)
    assert silence.check(later + 21 * S_IN_NS, awake, nobody) == (
        [Quiet("restless", later + 10 * S_IN_NS)],
        [],
        [],
    )


def test_a_silence_of_everybody_is_no_pause_of_one() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "lively", 0.1, start)
    assert silence.check(start + 11 * S_IN_NS, awake, nobody) == ([Quiet(None, start)], [], [])
    last = start + 100 * S_IN_NS
    speak_on(silence, "lively", start + 30 * S_IN_NS, last)
    silence.heard("other", last + 10 * S_IN_NS)
    assert silence.check(last + 11 * S_IN_NS, awake, nobody) == ([Quiet("lively", last)], [], [])


def test_a_channel_that_was_left_is_not_expected_to_speak() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "expired", 0.1, start)
    silence.heard("other", start + 11 * S_IN_NS)
    assert len(silence.check(start + 11 * S_IN_NS, awake, nobody)[0]) == 1
    left = start + 12 * S_IN_NS
    assert silence.keep_only({"other"}, left) == (["expired"], [Silent("expired", start, left)])
    assert silence.interrupted(start + 13 * S_IN_NS) == []


def test_what_has_a_reason_to_rest_is_not_silent_and_is_so_again_when_the_reason_is_gone() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "locked", 0.1, start)
    silence.heard("other", start + 19 * S_IN_NS)
    lock = start + 1
    assert silence.check(start + 20 * S_IN_NS, lambda _: lock, nobody) == NOTHING
    silence.heard("other", start + 29 * S_IN_NS)
    assert silence.check(start + 29 * S_IN_NS, awake, nobody) == NOTHING
    silence.heard("other", start + 31 * S_IN_NS)
    assert silence.check(start + 31 * S_IN_NS, awake, nobody) == (
        [Quiet("locked", start + 20 * S_IN_NS)],
        [],
        [],
    )
    halt = start + 33 * S_IN_NS
    assert silence.check(start + 34 * S_IN_NS, lambda _: halt, nobody) == (
        [], [], [Silent("locked", start + 20 * S_IN_NS, halt)],
    )  # fmt: skip


def test_a_channel_that_the_venue_can_be_asked_about_is_a_suspect_without_a_long_habit() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    for n in range(ARRIVALS_KEPT):
        silence.heard("book", start + n * S_IN_NS // 10)
    last = start + (ARRIVALS_KEPT - 1) * S_IN_NS // 10
    silence.heard("other", last + 9 * S_IN_NS)
    suspect = Still("book", last)
    for seconds in (11, 12):
        assert silence.check(last + seconds * S_IN_NS, awake, lambda _: True) == ([], [suspect], [])
    assert silence.convict(suspect) == [Quiet("book", last)]
    silence.heard("other", last + 13 * S_IN_NS)
    assert silence.check(last + 13 * S_IN_NS, awake, lambda _: True) == NOTHING
    until = last + 20 * S_IN_NS
    assert silence.heard("book", until) == [Silent("book", last, until)]
    assert silence.convict(suspect) == [], "it has spoken"
    speak_on(silence, "book", until, until + 5 * S_IN_NS)
    silence.heard("other", until + 15 * S_IN_NS)
    again = silence.check(until + 16 * S_IN_NS, awake, lambda _: True)
    assert again.suspect == [Still("book", until + 5 * S_IN_NS)], "a silence is none of its own pauses"


def test_who_was_excused_is_a_suspect_again_after_a_longer_pause_and_since_then() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "book", 0.1, start)
    excused = start + 11 * S_IN_NS
    silence.heard("other", excused)
    silence.excuse("book", excused, lacks_nothing=True)
    silence.heard("other", excused + 10 * S_IN_NS)
    assert silence.check(excused + 11 * S_IN_NS, awake, lambda _: True) == NOTHING
    found = silence.check(excused + 12 * S_IN_NS, awake, lambda _: True)
    assert found.suspect == [Still("book", excused)]


def test_a_silence_reaches_back_beyond_an_excuse_that_left_a_doubt() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "book", 0.1, start)
    excused = start + 11 * S_IN_NS
    silence.excuse("book", excused, lacks_nothing=False)
    silence.heard("other", excused + 10 * S_IN_NS)
    assert silence.check(excused + 11 * S_IN_NS, awake, lambda _: True) == NOTHING
    assert silence.check(excused + 12 * S_IN_NS, awake, lambda _: True).suspect == [Still("book", start)]
    assert silence.convict(Still("book", start)) == [Quiet("book", start)]


@pytest.mark.parametrize("since_s", [3500, 3700])
def test_a_pause_counts_for_an_hour_also_where_none_came_since(since_s: int) -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "book", 0.1, start)
    resumed = start + 300 * S_IN_NS
    last = resumed + since_s * S_IN_NS
    speak_on(silence, "book", resumed, last)
    silence.heard("other", last + 10 * S_IN_NS)
    found = silence.check(last + 11 * S_IN_NS, awake, lambda _: True)
    assert found.suspect == ([Still("book", last)] if since_s > PAUSE_KEPT_S else [])
