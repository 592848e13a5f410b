"""Who a stream is: `stream.json` in its folder, and the mark that a writer leaves when it stops cleanly.

The epoch in a stream id is new whenever it is not certain at which offset the stream had stopped: in a new
folder, after the segments were lost, after the end of the newest one was damaged. So no offset is used twice.
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


def new_identity(folder: Path) -> str:
    """Give the folder a new epoch, durably, and return the stream id."""
    epoch = secrets.token_hex(EPOCH_BYTES)
    content = json.dumps({"stream": folder.name, "epoch": epoch}).encode() + b"\n"
    replace_file(folder / IDENTITY_FILE, content)
    return f"{folder.name}@{epoch}"


def restore_identity(folder: Path, stream: str) -> None:
    """Write the identity file again, from a stream id found in a segment."""
    name, _, epoch = stream.rpartition("@")
    replace_file(folder / IDENTITY_FILE, json.dumps({"stream": name, "epoch": epoch}).encode() + b"\n")


def mark_copied(folder: Path) -> None:
    """Note in a copy of a stream's folder that the original may go on: the next writer here begins a new epoch."""
    content = {**_read_json(folder / IDENTITY_FILE), "copied": True}
    replace_file(folder / IDENTITY_FILE, json.dumps(content).encode() + b"\n")


def is_copied(folder: Path) -> bool:
    """Whether no writer has begun since the folder was copied."""
    return _read_json(folder / IDENTITY_FILE).get("copied") is True


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
