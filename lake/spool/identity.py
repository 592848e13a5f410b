"""Who a stream is: `stream.json` in its folder, and the mark that a writer leaves when it stops cleanly.

The epoch in a stream id is new whenever it is not certain at which offset the stream had stopped: in a new
folder, after the segments were lost, after the end of the newest one was damaged, where the tables hold records that
the spool does not reach (an older spool was put beside them), in a copy of a lake. So no offset is used twice.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Final

from lake.durable import fsync_dir, replace_file

IDENTITY_FILE: Final = "stream.json"
CLOSED_FILE: Final = "closed.json"
EPOCH_BYTES: Final = 4


def read_identity(folder: Path) -> str | None:
    """The stream id "<name>@<epoch>" of the folder, or None where it has none that can be read."""
    content = _read_json(folder / IDENTITY_FILE)
    name, epoch = content.get("stream"), content.get("epoch")
    return f"{name}@{epoch}" if isinstance(name, str) and isinstance(epoch, str) else None


def begun_after(folder: Path) -> str | None:
    """The stream id after which the folder's present epoch began; None where it was the first, or that is not known."""
    after = _read_json(folder / IDENTITY_FILE).get("after")
    return after if isinstance(after, str) else None


def begin_epoch(folder: Path, after: str | None) -> str:
    """Give the folder a new epoch, durably, and return the stream id; `after` is the stream id of its newest segment.

    Whoever opens the stream next goes on with the new epoch, although the segments are still of the old one. The mark
    of a clean stop, which speaks of the old one, goes.
    """
    unmark_closed(folder)
    return _write_identity(folder, secrets.token_hex(EPOCH_BYTES), after)


def restore_identity(folder: Path, stream: str) -> None:
    """Write the identity file again, from a stream id found in a segment."""
    _write_identity(folder, stream.rpartition("@")[2], None)


def _write_identity(folder: Path, epoch: str, after: str | None) -> str:
    content = {"stream": folder.name, "epoch": epoch, "after": after}
    replace_file(folder / IDENTITY_FILE, json.dumps(content).encode() + b"\n")
    return f"{folder.name}@{epoch}"


def mark_closed(folder: Path, end_offset: int) -> None:
    """Leave the mark of a clean stop: nothing after `end_offset` was appended."""
    replace_file(folder / CLOSED_FILE, json.dumps({"end_offset": end_offset}).encode() + b"\n")


def closed_at(folder: Path) -> int | None:
    """The end offset of the clean stop, or None where the last writer did not stop cleanly."""
    end_offset = _read_json(folder / CLOSED_FILE).get("end_offset")
    return end_offset if isinstance(end_offset, int) else None


def unmark_closed(folder: Path) -> None:
    """Remove the mark, durably, because a writer starts."""
    (folder / CLOSED_FILE).unlink(missing_ok=True)
    fsync_dir(folder)


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
