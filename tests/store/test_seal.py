"""The checksum of a whole file: no bit of it may change unnoticed, wherever it lies."""

from __future__ import annotations

import zlib
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from lake.parquet import write_file
from lake.schema import TABLES
from lake.seal import broken_seal
from tests.store.rows import stored_quotes

QUOTES = TABLES["quotes"]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "f.parquet"
    write_file(path, stored_quotes(40), QUOTES, purpose="ingest")
    return path


def test_a_sealed_file_is_whole_and_any_reader_takes_it(sealed: Path) -> None:
    assert broken_seal(sealed) is None
    assert pq.read_table(sealed).cast(QUOTES.arrow_schema).equals(stored_quotes(40).select(QUOTES.names))
    assert duckdb.read_parquet(str(sealed)).shape == (40, len(QUOTES.names))


def test_one_flipped_bit_anywhere_breaks_it(sealed: Path) -> None:
    content = sealed.read_bytes()
    with sealed.open("r+b", buffering=0) as file:
        for position, octet in enumerate(content):
            file.seek(position)
            file.write(bytes([octet ^ 1 << position % 8]))
            assert broken_seal(sealed), f"byte {position} of {len(content)}"
            file.seek(position)
            file.write(bytes([octet]))
    assert broken_seal(sealed) is None


def test_bits_that_only_the_statistics_hold_are_told(sealed: Path) -> None:
    """The rows come up as they were written, and SQL would look past them."""
    content = bytearray(sealed.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    first = stored_quotes(40)["instrument"][0].as_py().encode()
    content[content.index(first, footer)] ^= 1
    sealed.write_bytes(content)
    assert pq.read_table(sealed).cast(QUOTES.arrow_schema).equals(stored_quotes(40).select(QUOTES.names))
    assert "checksum" in (broken_seal(sealed) or "")


def test_every_byte_counts_once_and_in_its_place(sealed: Path) -> None:
    content = sealed.read_bytes()
    at = content.rindex(b"lakeseal") + 8
    said = int.from_bytes(content[at : at + 4], "little")
    assert said == zlib.crc32(content[:at] + bytes(4) + content[at + 4 :])


@pytest.mark.parametrize("size", [0, 7, 19])
def test_what_is_left_of_a_file_is_told(sealed: Path, size: int) -> None:
    sealed.write_bytes(sealed.read_bytes()[:size])
    assert broken_seal(sealed) == "too short for a file of this project"


def test_a_file_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    path = tmp_path / "old.parquet"
    pq.write_table(stored_quotes(40), path)
    assert broken_seal(path) is None
