"""Times as files spell them, as µs UTC: numbers of a unit, ISO text with or without a zone, and typed columns.

What is finer than a µs is cut off, as everywhere in the lake. A number with more than nine digits after a second is a
double printed in full, so it is rounded instead.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.exact import Array, Mask, valid_mask
from lake.schema import TIMESTAMP
from pipeline.importing.refusals import Verdicts

Longs = npt.NDArray[np.int64]

NS_IN: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
NS_IN_US: Final = 1_000
US_IN_S: Final = 1_000_000
FARTHEST_US: Final = 1 << 62
"""What would overflow stays as far out, to be refused."""
EARLIEST: Final = dt.datetime(2010, 1, 1, tzinfo=dt.UTC)
"""Before this nothing was traded that the lake could hold: the decoder of what is recorded says the same."""
AHEAD_MAX: Final = dt.timedelta(days=1)
NUMBER: Final = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_PLAIN: Final = r"^(?P<whole>[0-9]{1,19})(?:\.(?P<part>[0-9]{0,9})0*)?$"
_ISO: Final = (
    r"^(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<time>[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,](?P<part>[0-9]{1,18}))?)?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?$"
)
_OFFSET: Final = re.compile(r"([+-])([0-9]{2})(?::?([0-9]{2}))?")
_PART_DIGITS: Final = 9
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def fixed_offset(zone: str) -> int | None:
    """Seconds east of UTC that a zone such as Z or +09:00 says; None of the name of a place.

    Raises:
        ValueError: there is no such offset.
    """
    if zone.upper() in ("Z", "UTC", "GMT"):
        return 0
    match = _OFFSET.fullmatch(zone)
    if match is None:
        return None
    sign, hours, minutes = match.groups()
    if int(hours) > 15 or int(minutes or 0) > 59:
        raise ValueError(zone)
    return (int(hours) * 3600 + int(minutes or 0) * 60) * (-1 if sign == "-" else 1)


def read_times(column: str, cells: Array, unit: str, zone: str | None, verdicts: Verdicts) -> Array:
    """`cells` (text, or Arrow's own times) as times of the lake; rows whose cells are none are refused, and null."""
    if pa.types.is_timestamp(cells.type):
        return _typed(column, cells, zone, verdicts)
    if unit == "iso":
        return _of_text(column, cells, zone, verdicts)
    return _of_numbers(column, cells, unit, verdicts)


def refuse_odd_times(column: str, times: Array, unit: str, verdicts: Verdicts, *, ahead: bool) -> None:
    """Refuse times at which nothing was traded: of another `unit`, most likely. `ahead`: later than now is fine."""
    micros = np.asarray(pc.fill_null(times.cast(pa.int64()), _us(EARLIEST)))
    odd = micros < _us(EARLIEST)
    if not ahead:
        odd |= micros > _us(dt.datetime.now(dt.UTC) + AHEAD_MAX)
    if odd.any():
        cure = _unit_that_fits(verdicts.value(column, int(np.flatnonzero(odd)[0])), unit)
        verdicts.refuse(column, odd, f"is no time between {EARLIEST.year} and tomorrow", cure, general=True)


def _us(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


def _unit_that_fits(text: str | None, unit: str) -> str:
    """What to do about a time that cannot be: the unit in which it would be in the years that can, if there is one."""
    first, last = _us(EARLIEST), _us(dt.datetime.now(dt.UTC) + AHEAD_MAX)
    if text is None or re.fullmatch(NUMBER, text) is None:
        return "is it the right column?"
    for other in NS_IN:
        if other != unit and first <= Decimal(text) * NS_IN[other] / NS_IN_US <= last:
            return f'is the unit right? unit = "{other}" would fit'
    return "is the unit right?"


def _typed(column: str, cells: Array, zone: str | None, verdicts: Verdicts) -> Array:
    valid = valid_mask(cells)
    per_second = {"s": 1, "ms": 1_000, "us": US_IN_S, "ns": 1_000_000_000}[cells.type.unit]
    ticks = np.asarray(pc.fill_null(cells.cast(pa.timestamp(cells.type.unit)).cast(pa.int64()), 0))
    if per_second > US_IN_S:
        micros = ticks // NS_IN_US
    else:
        factor = US_IN_S // per_second
        micros = np.clip(ticks, -FARTHEST_US // factor, FARTHEST_US // factor) * factor
    if cells.type.tz is None:
        micros, clear = _from_zone(micros, valid, zone)
        verdicts.refuse(column, ~clear, *_NOT_CLEAR)
        valid &= clear
    return _as_times(micros, valid)


def _of_numbers(column: str, cells: Array, unit: str, verdicts: Verdicts) -> Array:
    valid = valid_mask(cells)
    plain = pc.extract_regex(cells, _PLAIN)
    is_plain = valid_mask(plain)
    whole = _clipped(
        pc.struct_field(plain, "whole"), is_plain, FARTHEST_US // max(NS_IN[unit] // NS_IN_US, 1)
    )
    if NS_IN[unit] >= NS_IN_US:
        micros = whole * (NS_IN[unit] // NS_IN_US)
        part = pc.utf8_rpad(pc.fill_null(pc.struct_field(plain, "part"), ""), _PART_DIGITS, "0")
        nanos = np.asarray(part.cast(pa.int64())) if len(part) else np.zeros(0, np.int64)
        micros += nanos * (NS_IN[unit] // NS_IN_US) // 1_000_000_000
    else:
        micros = whole // NS_IN_US
    odd = valid & ~is_plain
    for at in np.flatnonzero(odd).tolist():
        micro = _one_number(cells[at].as_py(), unit)
        if micro is not None:
            micros[at], odd[at] = micro, False
    cure = 'write unit = "iso" for times in text' if odd.any() else ""
    verdicts.refuse(column, odd, f"is no time in {unit}", cure, general=True)
    return _as_times(micros, valid & ~odd)


def _clipped(digits: Array, valid: Mask, farthest: int) -> Longs:
    texts = pc.if_else(pa.array(valid), digits, "0")
    try:
        values = np.asarray(texts.cast(pa.int64()))
    except pa.ArrowInvalid:
        values = np.array([min(int(text), FARTHEST_US) for text in texts.to_pylist()], np.int64)
    clipped: Longs = np.minimum(values, farthest)
    return clipped


def _one_number(text: str, unit: str) -> int | None:
    """µs since 1970 of one cell that is not written plainly; None where it is no number."""
    if re.fullmatch(NUMBER, text) is None:
        return None
    number = Decimal(text)
    if number.adjusted() > 30:
        return FARTHEST_US if number > 0 else -FARTHEST_US
    micros = number * NS_IN[unit] / NS_IN_US
    return max(min(int(micros.to_integral_value()), FARTHEST_US), -FARTHEST_US)


def _of_text(column: str, cells: Array, zone: str | None, verdicts: Verdicts) -> Array:
    valid = valid_mask(cells)
    parts = pc.extract_regex(cells, _ISO)
    good = valid_mask(parts)
    clock = pc.fill_null(pc.struct_field(parts, "time"), "")
    clock = pc.if_else(pc.equal(clock, ""), "00:00", clock)
    clock = pc.if_else(
        pc.equal(pc.utf8_length(clock), len("00:00")), pc.binary_join_element_wise(clock, ":00", ""), clock
    )
    day = pc.fill_null(pc.struct_field(parts, "day"), "1970-01-01")
    seconds, real = _seconds(pc.binary_join_element_wise(day, clock, "T"))
    part = pc.utf8_slice_codeunits(
        pc.utf8_rpad(pc.fill_null(pc.struct_field(parts, "part"), ""), 6, "0"), 0, 6
    )
    micros = seconds * US_IN_S + np.asarray(part.cast(pa.int64()))
    offsets, known = _offsets(pc.fill_null(pc.struct_field(parts, "zone"), ""))
    bad = valid & ~(good & real & (known | (offsets == 0)))
    cure = "write 2026-11-20T08:00:00Z, or give the unit of numbers" if bad.any() else ""
    verdicts.refuse(column, bad, "is no time", cure, general=True)
    local, clear = _from_zone(micros, valid & ~bad & ~known, zone)
    verdicts.refuse(column, ~clear, *_NOT_CLEAR)
    return _as_times(np.where(known, micros - offsets * US_IN_S, local), valid & ~bad & clear)


_NOT_CLEAR: Final = ("falls into a change of clocks of its zone", "give times in UTC, or with their offset")


def _seconds(texts: Array) -> tuple[Longs, Mask]:
    """Seconds since 1970 of texts of the form 2026-11-20T08:00:00, and which of them are on the calendar."""
    try:
        return np.asarray(texts.cast(pa.timestamp("s")).cast(pa.int64())), np.ones(len(texts), np.bool_)
    except pa.ArrowInvalid:
        seconds = [_calendar(text) for text in texts.to_pylist()]
        found = np.array([second or 0 for second in seconds], np.int64)
        return found, np.array([second is not None for second in seconds], np.bool_)


def _calendar(text: str) -> int | None:
    try:
        return int((dt.datetime.fromisoformat(text + "+00:00") - _EPOCH).total_seconds())
    except ValueError:
        return None


def _offsets(zones: Array) -> tuple[Longs, Mask]:
    """Seconds east of UTC, and which cells say a zone at all; an offset that there is not counts as said, of -1 s."""
    coded = zones.dictionary_encode()
    found: list[int] = []
    said: list[bool] = []
    for zone in coded.dictionary.to_pylist():
        try:
            offset = fixed_offset(zone) if zone else None
            found.append(offset or 0)
            said.append(offset is not None)
        except ValueError:
            found.append(-1)
            said.append(False)
    codes = np.asarray(coded.indices)
    if not len(codes):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return np.array(found, np.int64)[codes], np.array(said, np.bool_)[codes]


def _from_zone(micros: Longs, concerned: Mask, zone: str | None) -> tuple[Longs, Mask]:
    """Times of a wall clock in `zone` as UTC, and which are clear: not those that the clocks passed twice, or never."""
    everywhere = np.ones(len(micros), np.bool_)
    offset = fixed_offset(zone or "UTC")
    if offset is not None:
        return micros - offset * US_IN_S, everywhere
    naive = pa.array(np.where(concerned, micros, 0)).cast(pa.timestamp("us"))
    early, late = (
        np.asarray(
            pc.assume_timezone(naive, timezone=str(zone), ambiguous=side, nonexistent=side)
            .cast(pa.timestamp("us", tz="UTC"))
            .cast(pa.int64())
        )
        for side in ("earliest", "latest")
    )
    return early, (early == late) | ~concerned


def _as_times(micros: Longs, valid: Mask) -> Array:
    return pa.array(micros, mask=~valid).cast(TIMESTAMP)
