"""A checksum of every byte of a Parquet file, in the file itself.

Parquet's own checksums cover the data of pages, not the pages' headers nor the footer: a flipped bit there may give
the right rows and yet mislead a reader that skips row groups by their statistics. So a file is written as

    PAR1 │ pages │ "lakeseal" │ CRC-32 of the whole file │ footer │ length of the footer │ PAR1

with the CRC, four bytes little endian, taken as zero while it is computed. Readers find pages by the footer's
offsets and never look between the last page and the footer. The footer says too that there is a seal, so that one
damaged beyond recognition is not taken for a file of an earlier version, which has none.
"""

from __future__ import annotations

import io
import mmap
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FOOTER_KEY: Final = "lake.seal"
FOOTER_VALUE: Final = "crc32"
_MARK: Final = b"lakeseal"
_UNSET: Final = bytes(4)
_TAIL_BYTES: Final = 8  # the footer's length, and PAR1


class SealedFile(io.BufferedWriter):
    """A new file that sums up what is written to it: `reserve` before the footer, `seal` after it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self._crc = 0
        self._place = 0

    def write(self, data: ReadableBuffer, /) -> int:
        """Append `data`."""
        self._crc = zlib.crc32(data, self._crc)
        return super().write(data)

    def reserve(self) -> None:
        """Leave room for the checksum: all pages are written, the footer comes next."""
        self.write(_MARK)
        self._place = self.tell()
        self.write(_UNSET)

    def seal(self) -> None:
        """Enter the checksum: everything is written."""
        self.seek(self._place)
        super().write(self._crc.to_bytes(len(_UNSET), "little"))
        self.flush()


def broken_seal(path: Path) -> str | None:
    """What is wrong with the seal of the file at `path`; None where nothing is, or where it never had one.

    Raises:
        OSError: the file cannot be read.
    """
    if path.stat().st_size < len(_MARK) + len(_UNSET) + _TAIL_BYTES:
        return "too short for a file of this project"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        footer = len(content) - _TAIL_BYTES - int.from_bytes(content[-_TAIL_BYTES:][:4], "little")
        place = footer - len(_UNSET)
        marked = place >= len(_MARK) and content[place - len(_MARK) : place] == _MARK
        announced = (
            content.rfind(FOOTER_KEY.encode()) >= 0
        )  # wherever: the footer's length may be what is wrong
        if not marked:
            return "its checksum, which the footer announces, is not there" if announced else None
        with memoryview(content) as octets, octets[:place] as before, octets[footer:] as after:
            found = zlib.crc32(after, zlib.crc32(_UNSET, zlib.crc32(before)))
        said = int.from_bytes(content[place:footer], "little")
    return (
        None
        if found == said
        else f"its bytes have the checksum {found:08x}, at its writing it was {said:08x}"
    )
