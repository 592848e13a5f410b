"""Files in pieces: what kind each is, whatever its name says, and the cells of the columns that are wanted, as text.

CSV is read block by block in this thread, so that a file cut short leaves nothing running behind. Parquet and Arrow
files give the same: their values as text, but for times, which stay what they are.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from lake.errors import InputError
from lake.exact import Array
from pipeline.importing.refusals import Refusal
from pipeline.importing.typed import TYPED, typed_batches, typed_names

CSV: Final = "csv"
MAGIC_BYTES: Final = 8
COMPRESSIONS: Final = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\x04\x22\x4d\x18": "lz4",
}
UNPACK_FIRST: Final = {
    b"PK\x03\x04": "a zip archive",
    b"\xfd7zXZ": "compressed with xz",
    b"7z\xbc\xaf": "a 7z archive",
}
SEPARATORS: Final = ",;\t|"
LINE_MAX: Final = 32 << 20
UTF8_MARK: Final = b"\xef\xbb\xbf"
_NOT_TEXT: Final = (b"\xff\xfe", b"\xfe\xff")

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a file, with all that lies between them: its lines (rows, of a typed file) `first` to `end`.

    Lines are counted from 0 below the header; `lines` has that of each row, and `odd` those that are no rows. `columns`
    are by their names in the file.
    """

    first: int
    end: int
    lines: npt.NDArray[np.int64]
    columns: dict[str, Array]
    odd: dict[int, Refusal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """The header of a CSV file: how its cells are separated, the names, and the lines up to its end."""

    separator: str
    names: Sequence[str]
    lines: int


def first_line(path: Path) -> int:
    """What a person calls the line that is 0 in a `Piece`: rows of typed files are counted from 1."""
    with _opened(path) as (stream, kind, _):
        if kind != CSV:
            return 1
        found = _head(path, _Text(path, stream), [])
        return found.lines + 1 if found else 1


def column_names(path: Path) -> Sequence[str]:
    """The names that the columns of the file have; none where it is empty.

    Raises:
        InputError: the file cannot be read, or is of a kind that cannot be imported.
    """
    with _opened(path) as (stream, kind, _):
        if kind != CSV:
            return typed_names(path, kind)
        found = _head(path, _Text(path, stream), [])
        return found.names if found else ()


def pieces(path: Path, wanted: Sequence[str], piece_bytes: int, on_bytes: OnBytes) -> Iterator[Piece]:
    """The file in pieces of about `piece_bytes` of text, with the columns `wanted`; `on_bytes` is told of progress.

    Raises:
        InputError: the file lacks a column, is damaged, or is of a kind that cannot be imported.
    """
    wanted = list(dict.fromkeys(wanted))
    with _opened(path) as (stream, kind, told):
        if kind != CSV:
            position = 0
            for columns, count in typed_batches(path, kind, wanted, piece_bytes):
                yield Piece(position, position + count, np.arange(position, position + count), columns)
                position += count
            on_bytes(path.stat().st_size)
            return
        text = _Text(path, stream)
        head = _head(path, text, wanted)
        if head is None:
            return
        position, before = 0, 0
        while block := text.block(piece_bytes):
            piece = _parsed(path, block, head, wanted, position)
            position = piece.end
            yield piece
            on_bytes(told() - before)
            before = told()


class _opened:  # noqa: N801 - a context manager that reads like a function
    """The file, unpacked, with its kind and how far it has been read in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tuple[IO[bytes], str, Callable[[], int]]:
        self._file = self._path.open("rb")
        magic = self._file.read(MAGIC_BYTES)
        self._file.seek(0)
        for start, what in UNPACK_FIRST.items():
            if magic.startswith(start):
                raise InputError(
                    f"{self._path}: this is {what}; unpack it first, or compress it with gzip or zstd"
                )
        compression = next((name for start, name in COMPRESSIONS.items() if magic.startswith(start)), None)
        kind = next((kind for start, kind in TYPED.items() if magic.startswith(start)), CSV)
        stream = pa.input_stream(self._file, compression=compression)
        return stream, kind, self._file.tell

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Text:
    """A stream of text in blocks of whole lines."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path, self._stream = path, stream
        self._rest = b""
        self._ended = False
        self._rest = self._read(1 << 16)
        if self._rest.startswith(_NOT_TEXT) or b"\x00" in self._rest[:1024]:
            raise InputError(
                f"{path}: this is no text in UTF-8 (but UTF-16, or binary); save it as CSV in UTF-8"
            )
        self._rest = self._rest.removeprefix(UTF8_MARK)
        if b"\n" not in self._rest and b"\r" in self._rest:
            raise InputError(f"{path}: its lines end in CR alone; save it with the line ends LF or CRLF")

    def line(self) -> bytes | None:
        """The next line, without its end; None where there is none."""
        while b"\n" not in self._rest and not self._ended:
            self._more(1 << 16)
        if not self._rest:
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line.rstrip(b"\r")

    def block(self, size: int) -> bytes:
        """The next lines, about `size` bytes of them; empty at the end."""
        while not self._ended and (len(self._rest) < size or b"\n" not in self._rest):
            self._more(size)
        end = (
            len(self._rest)
            if self._ended and len(self._rest) <= size
            else self._rest.rfind(b"\n", 0, max(size, 1)) + 1
        )
        if not end:
            end = self._rest.find(b"\n") + 1 or len(self._rest)
        block, self._rest = self._rest[:end], self._rest[end:]
        return block

    def _more(self, size: int) -> None:
        if len(self._rest) > LINE_MAX and b"\n" not in self._rest:
            raise InputError(f"{self._path}: a line is longer than {LINE_MAX >> 20} MiB; is this a CSV file?")
        self._rest += self._read(max(size, 1 << 12))

    def _read(self, size: int) -> bytes:
        try:
            read = self._stream.read(size)
        except (pa.ArrowInvalid, OSError) as error:
            why = " ".join(str(error).split())
            raise InputError(
                f"{self._path}: the compressed file is damaged or was cut short: {why}"
            ) from None
        self._ended = not read
        return read


def _head(path: Path, text: _Text, wanted: Sequence[str]) -> Head | None:
    """Read the header; None where the file is empty."""
    lines = 0
    while (raw := text.line()) is not None:
        lines += 1
        if raw.strip():
            break
    else:
        return None
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: line {lines}: byte {error.start + 1} is no UTF-8; save the file as UTF-8"
        ) from None
    headers = {
        mark: [name.strip().strip("\"'").strip() for name in next(csv.reader([line], delimiter=mark))]
        for mark in SEPARATORS
    }
    separator = max(
        SEPARATORS, key=lambda mark: (sum(name in headers[mark] for name in wanted), len(headers[mark]))
    )
    names = headers[separator]
    for name in wanted:
        if name not in names:
            shown = ", ".join(names)
            raise InputError(
                f"{path}: the header has no column '{name}'; is this the right format? It has {shown[:300]}"
            )
        if names.count(name) > 1:
            raise InputError(f"{path}: the header has {names.count(name)} columns '{name}'; which is meant?")
    return Head(separator, names, lines)


def _parsed(path: Path, block: bytes, head: Head, wanted: Sequence[str], first: int) -> Piece:
    """A block of lines, of which `first` lie before it."""
    count = block.count(b"\n") + (not block.endswith(b"\n"))
    odd: dict[int, Refusal] = {}

    def told(row: Any) -> str:
        why = f"Expected {row.expected_columns} columns, got {row.actual_columns}"
        cure = "is a line end missing, or a quote left open?"
        odd[first + row.number - 1] = Refusal("line", None, why, cure, general=True)
        return "skip"

    keys = [str(number) for number in range(len(head.names))]
    key_of = {name: keys[head.names.index(name)] for name in wanted}
    try:
        table = pyarrow.csv.read_csv(
            pa.py_buffer(block),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, column_names=keys, block_size=max(len(block), 1)
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=head.separator, ignore_empty_lines=False, invalid_row_handler=told
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={key: pa.binary() for key in keys},
                include_columns=list(key_of.values()),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{path}: lines {first + head.lines + 1} to {first + head.lines + count}: {error}"
        ) from None
    taken = np.ones(count, np.bool_)
    taken[[line - first for line in odd]] = False
    lines = np.flatnonzero(taken) + first
    if len(lines) != table.num_rows:
        raise InputError(
            f"{path}: lines {first + head.lines + 1} to {first + head.lines + count}: a quote spans lines; "
            "write each row on a line of its own"
        )
    columns = {name: table[key].combine_chunks() for name, key in key_of.items()}
    return _without_blank_lines(Piece(first, first + count, lines, _as_text(columns, lines, odd), odd))


def _as_text(
    columns: dict[str, Array], lines: npt.NDArray[np.int64], odd: dict[int, Refusal]
) -> dict[str, Array]:
    """Bytes as text; rows whose bytes are no text are noted in `odd`, and their cells are empty."""
    texts: dict[str, Array] = {}
    for name, cells in columns.items():
        try:
            texts[name] = cells.cast(pa.string())
        except pa.ArrowInvalid:
            read: list[str] = []
            for at, cell in enumerate(cells.to_pylist()):
                try:
                    read.append(cell.decode("utf-8"))
                except UnicodeDecodeError:
                    read.append("")
                    shown = cell.decode("latin-1")[:80]
                    told = Refusal(name, shown, "is no UTF-8", "save the file as UTF-8", general=True)
                    odd.setdefault(int(lines[at]), told)
            texts[name] = pa.array(read, pa.string())
    return texts


def _without_blank_lines(piece: Piece) -> Piece:
    """Lines without anything are no rows, and neither are those that are odd."""
    rows = len(piece.lines)
    blank = np.ones(rows, np.bool_)
    for cells in piece.columns.values():
        blank &= np.asarray(pc.equal(pc.binary_length(cells), 0))
    blank |= np.isin(piece.lines, list(piece.odd))
    if not blank.any():
        return piece
    kept = pa.array(~blank)
    columns = {name: cells.filter(kept) for name, cells in piece.columns.items()}
    return Piece(piece.first, piece.end, piece.lines[~blank], columns, piece.odd)
