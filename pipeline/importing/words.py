"""The words that columns of text may hold, where the contract knows them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.exact import Array
from lake.schema import TableSpec
from pipeline.importing.refusals import Verdicts

VENUE: Final = "deribit"
"""The venue whose names, units and words these are."""
WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "venue": (VENUE,),
    "trades.side": ("buy", "sell"),
    "book.side": ("bid", "ask"),
    "liquidation": ("M", "T", "MT"),
    "option_type": ("call", "put"),
    "kind": ("option", "future", "spot", "option_combo", "future_combo"),
    "instrument_type": ("reversed", "linear"),
    "settlement_period": ("day", "week", "month", "perpetual"),
    "funding.type": ("hourly", "momentary"),
    "settlements.type": ("settlement", "delivery", "bankruptcy", "delivery_price"),
}
"""By column, or by table and column where the column's name means several things."""
_LENGTH: Final = r"^(?:[1-9][0-9]*[smhd]|tick)$"


def allowed(table: str, column: str) -> tuple[str, ...] | None:
    """The words that `column` may hold; None where any text may be right."""
    return WORDS.get(f"{table}.{column}", WORDS.get(column))


def as_words(cells: Array, words: tuple[str, ...]) -> Array:
    """`cells` in the spelling of `words`, where they differ in upper and lower case only."""
    at = pc.index_in(pc.utf8_lower(cells), value_set=pa.array([word.lower() for word in words], pa.string()))
    return pc.coalesce(pa.array(list(words), pa.string()).take(at), cells)


def refuse_odd_words(spec: TableSpec, columns: Mapping[str, Array], verdicts: Verdicts) -> None:
    """Refuse rows with a text that is none of its column's words; a null is judged elsewhere."""
    for name, cells in columns.items():
        words = allowed(spec.name, name)
        if words is not None:
            odd = pc.invert(pc.is_in(cells, value_set=pa.array(words)))
            cure = f'say what the texts of the file stand for: values = {{ "…" = "{words[0]}" }}'
            if name == "venue":
                cure = "names, units and words of other venues are others"
            verdicts.refuse(name, _said(cells, odd), f"is none of {', '.join(words)}", cure, general=True)
        elif name == "resolution":
            odd = pc.invert(pc.match_substring_regex(cells, _LENGTH))
            verdicts.refuse(
                name, _said(cells, odd), "is no length of a bar", "write 1m, 5m, 1h or 1d", general=True
            )


def _said(cells: Array, odd: Array) -> np.ndarray:
    return np.asarray(pc.and_(cells.is_valid(), odd).fill_null(False))
