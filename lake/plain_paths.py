"""A name for a folder that an engine takes as it is: DuckDB reads `*` and `[` in a path as a pattern, and any
`date=…` in it, also above the lake, as a value of the rows."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lake.errors import InputError

_PLAIN: Final = re.compile(r"(?!.*/\.\.?(/|$))[\w/. ,+@-]*")
_OPEN_FILES: Final = Path("/proc/self/fd")


@contextmanager
def plain_name(folder: Path) -> Iterator[str]:
    """A path to `folder`, which must exist, without any character that an engine reads as more than a name.

    It is good within the block, in this process. It is the folder's own path where that will do; else Linux gives
    one to a folder that is held open, and other systems get a link in the temporary folder.

    Raises:
        InputError: the temporary folder is needed, and has such characters in its own path.
    """
    if _PLAIN.fullmatch(str(folder)):
        yield str(folder)
    elif _OPEN_FILES.is_dir():
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield str(_OPEN_FILES / str(fd))
        finally:
            os.close(fd)
    else:
        with tempfile.TemporaryDirectory(prefix="lake-") as place:
            link = Path(place).absolute() / "tables"
            if not _PLAIN.fullmatch(str(link)):
                raise InputError(
                    f"SQL cannot be asked in {folder}: rename it, or set TMPDIR to a path of plain characters"
                )
            link.symlink_to(folder, target_is_directory=True)
            yield str(link)
