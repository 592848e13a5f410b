"""What is known of the instruments of a file: what their names say, and the listings that the lake has of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collectors.deribit.names import family, index_family, parse_name
from lake.errors import InputError
from lake.exact import Array, Mask
from lake.root import Root
from lake.tables import Tables
from lake.views import query
from pipeline.importing.refusals import Verdicts

OF_INDICES: Final = frozenset({"index_prices", "volatility_index"})
OR_INDICES: Final = frozenset({"settlements"})
BEFORE_LISTING_US: Final = 86_400_000_000
AFTER_EXPIRY_US: Final = 3_600_000_000
"""What the venue still sends of an instrument after its expiry, it sends within minutes."""
ALWAYS: Final = 1 << 62
_DECIMAL_POINT: Final = re.compile(r"(?<=\d)D(?=\d)")
"""Some archives write names in upper case, also the `d` that is the decimal point of a strike."""
_LISTED: Final = (
    "SELECT instrument, epoch_us(min(creation_ts)) AS listed, epoch_us(max(expiration_ts)) AS expires "
    "FROM instruments GROUP BY ALL"
)


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one instrument. `listed` and `expires` are µs since 1970; `call`: 1 of calls, -1 of puts, else 0."""

    family: str
    combo: bool = False
    call: int = 0
    inverse_option: bool = False
    strike: float = float("nan")
    listed: int = -ALWAYS
    expires: int = ALWAYS


@dataclass(frozen=True, slots=True)
class RowTerms:
    """The terms of the instrument of each row; those of rows without a readable name are refused."""

    families: Array
    combo: Mask
    call: npt.NDArray[np.int64]
    inverse_option: Mask
    strike: npt.NDArray[np.float64]
    listed: npt.NDArray[np.int64]
    expires: npt.NDArray[np.int64]


@dataclass(slots=True)
class Instruments:
    """Terms by name, for the rows of one table; of `root` it takes the listings, where there is a lake already."""

    table: str
    root: Root | None = None
    _known: dict[str, Terms | str] = field(default_factory=dict)
    _listed: dict[str, tuple[int | None, int | None]] | None = None

    def of_rows(self, names: Array, verdicts: Verdicts) -> RowTerms:
        """The terms of every row; rows whose names cannot be read are refused."""
        coded = names.dictionary_encode()
        found: list[Terms] = []
        for code, name in enumerate(coded.dictionary.to_pylist()):
            terms = self._terms(name)
            if isinstance(terms, str):
                rows = np.asarray(pc.equal(coded.indices, code).fill_null(False))
                verdicts.refuse("instrument", rows, f"cannot be read: {terms}", general=True)
                terms = Terms("")
            found.append(terms)
        found.append(Terms(""))
        at = np.asarray(coded.indices.fill_null(len(found) - 1))

        def each(name: str, kind: Any) -> Any:
            return np.array([getattr(terms, name) for terms in found], kind)[at]

        families = pa.array([terms.family for terms in found], pa.string()).take(pa.array(at))
        return RowTerms(
            families,
            each("combo", np.bool_),
            each("call", np.int64),
            each("inverse_option", np.bool_),
            each("strike", np.float64),
            each("listed", np.int64),
            each("expires", np.int64),
        )

    def _terms(self, name: str) -> Terms | str:
        if name not in self._known:
            try:
                self._known[name] = self._read(name)
            except InputError as error:
                self._known[name] = str(error)
        return self._known[name]

    def _read(self, name: str) -> Terms:
        if self.table in OF_INDICES or (self.table in OR_INDICES and name == name.lower()):
            return Terms(index_family(name))
        parsed = parse_name(name)
        listed, expires = self._listing().get(name, (None, None))
        return Terms(
            family=family(name),
            combo=parsed.kind in ("future_combo", "option_combo"),
            call={"call": 1, "put": -1}.get(parsed.option_type or "", 0),
            inverse_option=parsed.kind == "option" and parsed.quote is None,
            strike=float("nan") if parsed.strike is None else parsed.strike,
            listed=-ALWAYS if listed is None else listed,
            expires=expires or parsed.expiry or ALWAYS,
        )

    def _listing(self) -> dict[str, tuple[int | None, int | None]]:
        if self._listed is None:
            self._listed = {}
            if self.root is not None and Tables(self.root).find("instruments") is not None:
                rows = query(self.root, _LISTED).to_pylist()
                self._listed = {row["instrument"]: (row["listed"], row["expires"]) for row in rows}
        return self._listed


def spelled(names: Array, table: str) -> Array:
    """Names as the venue writes them: options in upper case but for their decimal point, indices in lower case."""
    coded = names.dictionary_encode()
    as_written = [
        name.lower() if table in OF_INDICES else _as_instrument(name) for name in coded.dictionary.to_pylist()
    ]
    return pa.array(as_written, pa.string()).take(coded.indices)


def _as_instrument(name: str) -> str:
    if name == name.lower() and "-" not in name:
        return name  # an index, or nothing at all
    return _DECIMAL_POINT.sub("d", name.upper())
