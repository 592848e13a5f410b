"""A mapping proposed for a file, from the names of its columns and its first rows; what is a guess says so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from collectors.deribit.names import parse_name
from lake.errors import InputError
from lake.schema import TABLES, TableSpec
from pipeline.importing.aliases import ALIASES, CCXT, SIDES, TABLE_OF
from pipeline.importing.cells import NOTHING
from pipeline.importing.formats import SAME_AS, TARDIS
from pipeline.importing.plausible import FRACTION_MEDIAN, PERCENT_SEEN, VOLATILITIES
from pipeline.importing.reading import column_names, pieces
from pipeline.importing.rows import IS_SNAPSHOT
from pipeline.importing.terms import OF_INDICES
from pipeline.importing.words import VENUE, allowed

SAMPLE_BYTES: Final = 1 << 20
MAGNITUDES: Final = (("s", 1e9, 1e10), ("ms", 1e12, 1e13), ("us", 1e15, 1e16), ("ns", 1e18, 1e19))
"""What times of 2001 to 2286 are as numbers."""
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_NAME_IN_PATH: Final = re.compile(
    r"[A-Z0-9]+(?:_[A-Z0-9]+)?-(?:PERPETUAL|[1-9][0-9]?[A-Z]{3}[0-9]{2}(?:-[0-9]+(?:d[0-9]+)?-[CP])?)"
)
_ISO: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(slots=True)
class Proposal:
    """The text of a mapping, and what it lacks before it can be used: required columns that the file has not."""

    text: str
    missing: list[str]


@dataclass(slots=True)
class _Sketch:
    """A mapping in the making: per column of the table its line, and what to doubt about it."""

    spec: TableSpec
    lines: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)

    def text(self, path: Path, unused: Sequence[str], missing: Sequence[str]) -> str:
        """The TOML."""
        parts = [
            f"# Proposed for {path.name}; look it through, then: lake import --mapping THIS --dry-run {path.name}"
        ]
        parts += [f'table = "{self.spec.name}"', "", "[columns]"]
        parts += [self._line(name, line) for name, line in self.lines.items()]
        parts += [
            f'# {name} = "…"   # the table needs it, and no column of the file looks like it'
            for name in missing
        ]
        parts += ["", "[constants]"]
        parts += [self._line(name, _quoted(value)) for name, value in self.constants.items()]
        if unused:
            parts += ["", *(f"# not used: {name!r}" for name in unused)]
        return "\n".join(parts) + "\n"

    def _line(self, name: str, line: str) -> str:
        doubt = f"   # not sure: {self.doubts[name]}" if name in self.doubts else ""
        return f"{name} = {line}{doubt}"


def propose_mapping(path: Path) -> Proposal:
    """The mapping that the header and the first rows of a file suggest.

    Raises:
        InputError: the file cannot be read, is empty, or looks like no table of the lake.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    names = list(dict.fromkeys(name for name in column_names(path) if name))
    if IS_SNAPSHOT in names:
        raise InputError(f"{path}: this is a file of books; import it with --tardis incremental_book_L2")
    by_alias = {_plain(name): name for name in reversed(names)}
    table = _table(path, by_alias)
    spec = TABLES[table]
    piece = next(pieces(path, names, SAMPLE_BYTES, lambda _: None), None)
    samples = {name: _said(piece.columns[name]) if piece else [] for name in names}
    sketch = _Sketch(spec)
    for column, file_column in _matched(spec, by_alias).items():
        _sketch_column(sketch, column, file_column, samples[file_column])
    _constants(sketch, path, samples)
    used = {source for source in names if any(_names(line, source) for line in sketch.lines.values())}
    given = sketch.lines.keys() | sketch.constants.keys()
    implied = {name for name, others in SAME_AS.items() if given & {*others}}
    missing = [column.name for column in spec.columns if column.name in spec.required - given - implied]
    text = sketch.text(path, [name for name in names if name not in used], missing)
    form = next((form for form, known in TARDIS.items() if _is_tardis(known.columns.values(), names)), None)
    if form is not None:
        text = f"# The header is that of Tardis' {form}: --tardis {form} does without a mapping.\n{text}"
    return Proposal(text, missing)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_tardis(sources: Any, names: Sequence[str]) -> bool:
    return {source.column for source in sources} <= set(names) and "local_timestamp" in names


def _table(path: Path, by_alias: Mapping[str, str]) -> str:
    """The table whose tell-tale columns the file has."""
    for table, groups in TABLE_OF:
        if all(any(alias in by_alias for alias in group) for group in groups):
            return table
    shown = ", ".join(by_alias.values())[:300]
    raise InputError(
        f"{path}: no table of the lake looks like it, by its columns {shown}; write a mapping by hand"
    )


def _matched(spec: TableSpec, by_alias: Mapping[str, str]) -> dict[str, str]:
    """Per column of the table the column of the file, each used once."""
    found: dict[str, str] = {}
    for column in spec.names:
        aliases = (_plain(column), *ALIASES.get(f"{spec.name}.{column}", ALIASES.get(column, ())))
        fitting = (by_alias[alias] for alias in aliases if alias in by_alias)
        taken = next((name for name in fitting if name not in found.values()), None)
        if taken is not None:
            found[column] = taken
    return found


def _said(cells: Any) -> list[Any]:
    """The values of a sample that say anything, in order."""
    if pa.types.is_timestamp(cells.type):
        return [cell for cell in cells.to_pylist() if cell is not None]
    texts = (cell.strip() for cell in cells.to_pylist() if cell is not None)
    return [text for text in texts if text not in NOTHING]


def _sketch_column(sketch: _Sketch, column: str, source: str, sample: Sequence[Any]) -> None:
    if not sample and column not in sketch.spec.required:
        sketch.doubts[column] = "the first rows say nothing in it"
    words: dict[str, Any] = {}
    if pa.types.is_timestamp(sketch.spec.column(column).type):
        words = _time_words(sketch, column, sample)
    elif column in VOLATILITIES and sketch.spec.name != "marks" and sample:
        numbers = sorted(number for number in map(_number, sample) if number > 0)
        if numbers and numbers[len(numbers) // 2] < FRACTION_MEDIAN and numbers[-1] < PERCENT_SEEN:
            words = {"scale": "percent"}
            sketch.doubts[column] = "the first values look like fractions, such as 0.62 for 62 percent"
    elif column == "instrument":
        words = _instrument_words(sketch, sample)
    elif (known := allowed(sketch.spec.name, column)) is not None:
        words = _word_words(sketch, column, known, sample)
    if words:
        inside = ", ".join(f"{word} = {_toml(value)}" for word, value in words.items())
        sketch.lines[column] = f"{{ column = {_quoted(source)}, {inside} }}"
    else:
        sketch.lines[column] = _quoted(source)


def _time_words(sketch: _Sketch, column: str, sample: Sequence[Any]) -> dict[str, Any]:
    texts = [value for value in sample if isinstance(value, str)]
    if not texts:
        return {}
    number = abs(_number(texts[0]))
    for unit, least, most in MAGNITUDES:
        if least <= number < most:
            return {"unit": unit}
    if _ISO.match(texts[0]) is None:
        sketch.doubts[column] = f"{texts[0]!r} looks like no time that can be read"
    return {"unit": "iso"}


def _instrument_words(sketch: _Sketch, sample: Sequence[Any]) -> dict[str, Any]:
    """Names of ccxt become the venue's, as far as the first rows show them."""
    names = sorted(set(map(str, sample)))
    if sketch.spec.name in OF_INDICES:
        return {}
    strange = [name for name in names if not _is_instrument(name.upper())]
    values = {name: venue_name for name in strange if (venue_name := CCXT.as_venue(name)) is not None}
    if values:
        sketch.doubts["instrument"] = "names of ccxt, of the first rows only: add those that come later"
    elif strange:
        sketch.doubts["instrument"] = f"{strange[0]!r} is no name of Deribit's"
    return {"values": values} if values else {}


def _is_instrument(name: str) -> bool:
    try:
        parse_name(re.sub(r"(?<=\d)D(?=\d)", "d", name))
    except InputError:
        return False
    return True


def _word_words(sketch: _Sketch, column: str, known: Sequence[str], sample: Sequence[Any]) -> dict[str, Any]:
    lower = {word.lower() for word in known}
    strange = sorted({text for text in map(str, sample) if text.lower() not in lower})
    if not strange:
        return {}
    guesses = SIDES if column == "side" else {"c": "call", "p": "put", "drbt": VENUE}
    values = {text: guesses[text.lower()] for text in strange if guesses.get(text.lower()) in known}
    rest = [text for text in strange if text not in values]
    sketch.doubts[column] = (
        f"what do {', '.join(map(repr, rest))} stand for?" if rest else "are the words told rightly?"
    )
    return {"values": values} if values else {}


def _constants(sketch: _Sketch, path: Path, samples: Mapping[str, Sequence[Any]]) -> None:
    """What the file does not say, where it can be guessed."""
    del samples
    names = sketch.spec.names
    if "venue" not in sketch.lines:
        sketch.constants["venue"] = VENUE
    if "instrument" not in sketch.lines and (match := _NAME_IN_PATH.search(path.name)):
        sketch.constants["instrument"] = match[0]
        sketch.doubts["instrument"] = "taken from the name of the file"
    for column, word, doubt in (
        ("resolution", "1m", "how long is a bar?"),
        ("source", "file", "who made the bars?"),
        ("type", "hourly", "or momentary?"),
    ):
        if (
            column in names
            and column not in sketch.lines
            and column in sketch.spec.required
            and sketch.spec.name != "settlements"
        ):
            sketch.constants[column], sketch.doubts[column] = word, doubt


def _names(line: str, source: str) -> bool:
    return line == _quoted(source) or line.startswith(f"{{ column = {_quoted(source)},")


def _number(text: Any) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_quoted(text)}" for key, text in value.items()) + " }"
    return _quoted(str(value))


def _key(text: str) -> str:
    return text if _BARE_KEY.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
