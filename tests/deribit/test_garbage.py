"""Whatever bytes come, decoding raises nothing, accounts for every frame, and spares the neighbours."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.deribit.decode import Decoded, decode
from tests.deribit import independent

VALID = [frame for _, frame in independent.hand_made()]
QUIET = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
valid = st.sampled_from(VALID)


@st.composite
def truncated(draw: st.DrawFn) -> bytes:
    frame = draw(valid)
    return frame[: draw(st.integers(0, len(frame) - 1))]


@st.composite
def flipped(draw: st.DrawFn) -> bytes:
    frame = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 4))):
        frame[draw(st.integers(0, len(frame) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(frame)


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """A valid frame in which one value, at any depth, is another."""
    message = json.loads(draw(valid))
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        if isinstance(value, (dict, list)):
            for key in value if isinstance(value, dict) else range(len(value)):
                places.append((value, key))
                collect(value[key])

    collect(message)
    holder, key = draw(st.sampled_from(places))
    holder[key] = draw(any_json)
    return json.dumps(message, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


garbage = st.one_of(
    st.binary(max_size=80),
    any_json.map(lambda value: json.dumps(value).encode()),
    truncated(),
    flipped(),
    edited(),
)


def run(frames: list[bytes]) -> Decoded:
    return decode(frames, np.arange(len(frames), dtype=np.int64), np.zeros(len(frames), np.uint16))


def rows_of(result: Decoded, records: set[int]) -> list[list[dict[str, Any]]]:
    """What the tables hold of these frames, apart from where the frames stood in the input."""
    wanted = [[row for row in t.to_pylist() if row["record"] in records] for t in result.tables.values()]
    return [[{k: v for k, v in r.items() if k not in ("record", "recv_ts")} for r in rows] for rows in wanted]


@QUIET
@given(st.lists(garbage, max_size=6), st.lists(valid, max_size=4), st.randoms(use_true_random=False))
def test_garbage_never_raises_nor_touches_its_neighbours(
    bad: list[bytes], good: list[bytes], random: Any
) -> None:
    order = [(frame, False) for frame in bad] + [(frame, True) for frame in good]
    random.shuffle(order)
    mixed = run([frame for frame, _ in order])
    alone = run([frame for frame, is_good in order if is_good])
    where_good = {i for i, (_, is_good) in enumerate(order) if is_good}
    assert rows_of(mixed, where_good) == rows_of(alone, set(range(len(good))))
    assert not {reject.record for reject in mixed.rejects} & where_good
    assert alone.rejects == []


@QUIET
@given(st.lists(garbage | valid, max_size=8))
def test_every_frame_is_accounted_for_once(frames: list[bytes]) -> None:
    result = run(frames)
    rejected = [reject.record for reject in result.rejects]
    tabulated = {record for table in result.tables.values() for record in table["record"].to_pylist()}
    empty = sum(is_empty_list(f) for i, f in enumerate(frames) if i not in rejected)
    assert len(rejected) == len(set(rejected))
    assert not tabulated & set(rejected)
    assert len(rejected) + len(tabulated) + result.control + empty == len(frames)
    assert all("\n" not in reject.reason for reject in result.rejects)
    assert sum(result.other.values()) <= result.control


def is_empty_list(frame: bytes) -> bool:
    """The one kind of frame that is taken and leaves no row."""
    try:
        message = json.loads(frame.decode("utf-8", "replace"))
        params = message["params"]
        return bool(params["data"] == [] and params["channel"].split(".")[0] in ("trades", "markprice"))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return False
