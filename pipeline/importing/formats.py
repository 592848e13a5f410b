"""What the columns of a file mean, and Tardis' CSV files; mappings that users write are read in `mapping`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from lake.schema import COUNTED

Unit = Literal["s", "ms", "us", "ns", "iso"]
NOT_FROM_FILES: Final = frozenset({"book", "backfills", "book_answers", "gaps"})
FROM_FILES: Final = (*(name for name in COUNTED if name not in NOT_FROM_FILES), "chain")
"""Tables that a mapping can fill: not those whose rows make sense only in groups, or tell what we were answered."""
SAME_AS: Final = {"recv_ts": ("quote_ts", "ts"), "quote_ts": ("ts",), "valid_from": ("creation_ts",)}
"""Times that a file may leave out, each with the columns that it is taken from then, the first that there is."""


@dataclass(frozen=True, slots=True)
class Source:
    """A column of the file and what its cells mean.

    unit: of times that are numbers; iso for text. zone: of times in text that name none; UTC where it is not said.
    scale: what numbers are multiplied by, decimal text. null: texts that mean nothing, besides the usual ones.
    values: what texts stand for. zero_is_null: 0 stands for what is not known.
    """

    column: str
    unit: Unit = "us"
    zero_is_null: bool = False
    scale: str | None = None
    zone: str | None = None
    null: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileFormat:
    """What a file's columns become. `grouped` files have a row per level of a book message."""

    table: str
    columns: Mapping[str, Source]
    constants: Mapping[str, str] = field(default_factory=dict)
    grouped: bool = False


def _format(table: str, columns: Mapping[str, str], *, grouped: bool = False) -> FileFormat:
    common = {"venue": "exchange", "instrument": "symbol", "ts": "timestamp", "recv_ts": "local_timestamp"}
    named = {**common, **columns}
    sources = {name: Source(column) for name, column in named.items()}
    return FileFormat(table, sources, grouped=grouped)


_TOP: Final = {
    "bid_price": "bid_price",
    "bid_size": "bid_amount",
    "ask_price": "ask_price",
    "ask_size": "ask_amount",
}
_SAME: Final = (
    "bid_iv", "ask_iv", "mark_iv", "last_price", "mark_price", "underlying_price", "underlying_index", "delta", "gamma",
    "vega", "theta", "rho", "open_interest",
)  # fmt: skip

TARDIS: Final[Mapping[str, FileFormat]] = {
    "trades": _format("trades", {"trade_id": "id", "side": "side", "price": "price", "size": "amount"}),
    "quotes": _format("quotes", _TOP),
    "options_chain": _format("quotes", {**_TOP, **{name: name for name in _SAME}}),
    "derivative_ticker": _format(
        "quotes",
        {
            "last_price": "last_price",
            "mark_price": "mark_price",
            "index_price": "index_price",
            "open_interest": "open_interest",
            "current_funding": "funding_rate",
        },
    ),
    "incremental_book_L2": _format(
        "book", {"side": "side", "price": "price", "size": "amount"}, grouped=True
    ),
}
"""Tardis' downloadable CSV files by data type (docs.tardis.dev/downloadable-csv-files/data-types): times are µs UTC, an
empty cell is no value, `local_timestamp` is when Tardis received the message."""
