"""The content hash: the same for the same rows however they are held, another for any other rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.content import LONG_BYTES, content_hash, row_hashes
from tests.store.rows import DAY_US, stored_quotes, trades

MODULUS = 2**64
TEXTS = st.text(max_size=20)


def rows_of(values: list[tuple[str | None, float | None, int | None]]) -> pa.Table:
    text, number, integer = zip(*values, strict=True) if values else ((), (), ())
    return pa.table(
        {
            "text": pa.array(text, pa.string()),
            "number": pa.array(number, pa.float64()),
            "integer": pa.array(integer, pa.int64()),
        }
    )


ROWS = st.lists(
    st.tuples(
        st.none() | TEXTS,
        st.none() | st.floats(allow_nan=False).filter(lambda x: str(x) != "-0.0"),
        st.none() | st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=30,
)


def test_golden_value() -> None:
    """A change here makes every hash recorded in a lake wrong: then the schema version must rise."""
    rows = stored_quotes(
        3,
        instrument=["BTC-25DEC26-76000-C", "BTC-PERPETUAL", "XRP_USDC-30JUN23-0d625-C"],
        bid_price=[0.1255, 83212.0, None],
        delta=[0.74092, None, -0.5],
        index_price=[83250.78, 88728.94666666667, 2.5],
    )
    assert content_hash(rows) == GOLDEN_QUOTES
    assert (
        content_hash(rows_of([("", 0.0, 0), (None, None, None), ("äöü 17 bytes long", 1e300, -1)])) == GOLDEN
    )


GOLDEN_QUOTES = 1753755657592306745
GOLDEN = 3157575089758163935


@given(ROWS, ROWS, st.randoms())
@settings(max_examples=150, deadline=None)
def test_hash_of_a_union_is_the_sum_in_any_order_and_split(a: list, b: list, random: object) -> None:  # type: ignore[type-arg]
    together = a + b
    random.shuffle(together)  # type: ignore[attr-defined]
    expected = (content_hash(rows_of(a)) + content_hash(rows_of(b))) % MODULUS
    assert content_hash(rows_of(together)) == expected
    assert content_hash(pa.concat_tables([rows_of(b), rows_of(a)])) == expected


@given(ROWS, ROWS)
@settings(max_examples=150, deadline=None)
def test_different_rows_have_different_hashes(a: list, b: list) -> None:  # type: ignore[type-arg]
    same = sorted(map(repr, a)) == sorted(map(repr, b))
    assert (content_hash(rows_of(a)) == content_hash(rows_of(b))) is same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((None, 0.0, 0), ("", 0.0, 0)),
        ((None, None, 0), (None, None, None)),
        (("a", 1.0, None), ("a", None, 1)),
        (("a\0", 1.0, 1), ("a", 1.0, 1)),
        (("12345678", 1.0, 1), ("1234567", 1.0, 1)),
        (("x", 0.1, 1), ("x", 0.1 + 2e-17, 1)),
    ],
)
def test_nulls_columns_and_last_bytes_count(one: tuple, other: tuple) -> None:  # type: ignore[type-arg]
    assert (content_hash(rows_of([one])) == content_hash(rows_of([other]))) is (one == other)


def test_values_may_not_be_swapped_between_columns_or_rows() -> None:
    rows = pa.table({"bid_price": [1.0, 3.0], "ask_price": [2.0, 4.0]})
    across = pa.table({"bid_price": [2.0, 4.0], "ask_price": [1.0, 3.0]})
    down = pa.table({"bid_price": [3.0, 1.0], "ask_price": [2.0, 4.0]})
    assert len({content_hash(t) for t in (rows, across, down)}) == 3


def test_a_row_twice_is_not_no_row() -> None:
    rows = stored_quotes(1)
    assert content_hash(pa.concat_tables([rows, rows])) == 2 * content_hash(rows) % MODULUS
    assert content_hash(rows) != 0
    assert content_hash(rows.slice(0, 0)) == 0


def test_encoding_type_and_chunks_do_not_matter() -> None:
    deltas = [i / 1000 for i in range(50)]
    plain = stored_quotes(50, instrument=[f"BTC-{i % 7}" for i in range(50)], delta=deltas)
    coded = plain.set_column(1, "instrument", plain["instrument"].dictionary_encode())
    doubles = plain.set_column(plain.schema.get_field_index("delta"), "delta", pa.array(deltas))
    split = pa.concat_tables([plain.slice(31), coded.slice(0, 31).cast(plain.schema)])
    assert len({content_hash(t) for t in (plain, coded, doubles, split)}) == 1


def test_partition_columns_and_columns_of_nulls_do_not_count() -> None:
    rows = trades(["1", "2"], [0, 1])
    bare = rows.drop_columns(["block_trade_id", "iv"])
    partitioned = rows.append_column("date", pa.array([DAY_US // 86_400_000_000] * 2, pa.int32()))
    partitioned = partitioned.append_column("family", pa.array(["btc_perpetual"] * 2))
    assert content_hash(bare) == content_hash(rows) == content_hash(partitioned)


def test_no_collision_among_near_equal_rows() -> None:
    count = 200_000
    rows = pa.table(
        {"change_id": np.arange(count), "level": np.arange(count) % 5, "price": np.arange(count) / 2}
    )
    assert len(np.unique(row_hashes(rows, rows.column_names))) == count


def test_long_texts_have_the_hash_they_always_had() -> None:
    """The number was found when every text was taken eight bytes a step; texts of megabytes took minutes then."""
    bound = LONG_BYTES
    lengths = [bound + over for over in (-8, -3, -1, 0, 1, 8, 9, 1000)]
    texts = ["".join(chr(33 + (i * 7 + length - bound) % 90) for i in range(length)) for length in lengths]
    rows = pa.table({"trade_id": [*texts, "short", "", None]})
    assert content_hash(rows) == 11912039633648136283
    assert content_hash(pa.table({"trade_id": ["x" * 20_000_000]})) != 0
