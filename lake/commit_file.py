"""The bytes of one commit: what they say, and how they show that nobody has changed them.

A commit is a file of JSON objects, one a line, as the Delta protocol has it: what is added, what is removed, how far a
stream got (`txn`), and first a word on the commit itself. Into that word goes our own entry:

    "ticklake": {"version": 57, "actions": 3, "checksum": "9c1f…", "previous": "04ab…", …}

`actions` counts the adds, removes and txns, so that a torn commit shows. `checksum` is the SHA-256 of the other lines,
each as canonical JSON (keys sorted, no spaces), so that a changed line shows. `previous` is the SHA-256 of all bytes
of the commit before, so that the commits are a chain: none can be changed, taken out or put in without the next one
showing it. The newest has no next one; its hash is kept in the table's head (`lake.heads`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

METADATA_KEY: Final = "ticklake"
COUNTED: Final = ("add", "remove", "txn")
ENGINE: Final = "ticklake"
Action: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit file says."""

    content: bytes
    actions: tuple[Action, ...]
    """All lines but the one on the commit itself, as `{"add": …}` and so on."""
    entry: Mapping[str, Any]
    """Our own entry; empty where another program wrote the commit."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The actions of one kind: `add`, `remove`, `txn`, `metaData`, …"""
        return [action[kind] for action in self.actions if kind in action]

    @property
    def added(self) -> list[str]:
        """Paths that it adds."""
        return [add["path"] for add in self.of("add")]

    @property
    def removed(self) -> list[str]:
        """Paths that it removes."""
        return [remove["path"] for remove in self.of("remove")]

    @property
    def version(self) -> int | None:
        """Its version as its writer put it; None where another program wrote it."""
        found = self.entry.get("version")
        return found if isinstance(found, int) else None

    @property
    def sha256(self) -> str:
        """Of all its bytes."""
        return sha256(self.content)


def encode(
    version: int,
    previous: str | None,
    actions: Sequence[Action],
    metadata: Mapping[str, Any] | None,
    *,
    operation: str = "WRITE",
    parameters: Mapping[str, str] | None = None,
) -> Commit:
    """The commit `version` of these actions, after one whose bytes have the hash `previous`."""
    entry = {
        **(metadata or {}),
        "version": version,
        "actions": sum(kind in action for action in actions for kind in COUNTED),
        "checksum": checksum(actions),
        "previous": previous,
    }
    info = {
        "timestamp": now_ms(),
        "operation": operation,
        "operationParameters": dict(parameters or {}),
        "engineInfo": ENGINE,
        METADATA_KEY: entry,
    }
    lines = [{"commitInfo": info}, *actions]
    content = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    return Commit(content, tuple(actions), entry)


def decode(content: bytes) -> Commit:
    """What the bytes of a commit file say.

    Raises:
        ValueError: they are not one JSON object per line, as in a torn commit.
    """
    lines = [json.loads(line) for line in content.splitlines()]
    if not lines or not all(isinstance(line, dict) for line in lines):
        raise ValueError("not one JSON object per line" if lines else "empty")
    info = next((line["commitInfo"] for line in lines if "commitInfo" in line), {})
    entry = info.get(METADATA_KEY, {}) if isinstance(info, dict) else {}
    actions = tuple(line for line in lines if "commitInfo" not in line)
    return Commit(content, actions, entry if isinstance(entry, dict) else {})


def torn(content: bytes, version: int) -> str | None:
    """Why these bytes are only a part of a commit, as a power cut may leave it; None where they are not."""
    try:
        commit = decode(content)
    except (ValueError, RecursionError) as error:
        return (
            f"torn commit: {error}" if str(error) == "empty" else "torn commit: not one JSON object per line"
        )
    counted = sum(kind in action for action in commit.actions for kind in COUNTED)
    claimed = commit.entry.get("actions", counted)
    if claimed != counted:
        return f"torn commit: {claimed} actions announced, {counted} there"
    if not version and not commit.of("metaData"):
        return "torn commit: the table's first has no metadata"
    return None


def damage(content: bytes, version: int) -> str | None:
    """Why these bytes are not commit `version` as one of ours wrote it; None where nothing speaks against it."""
    if reason := torn(content, version):
        return reason
    commit = decode(content)
    if not commit.entry:
        return "a commit that this project never wrote"
    if commit.version != version:
        return f"the commit of version {commit.version}, under another's name"
    if commit.entry.get("checksum") != checksum(commit.actions):
        return "altered commit: its lines have another checksum than it says"
    return None


def checksum(actions: Iterable[Action]) -> str:
    """SHA-256 of the lines of a commit, without the one on the commit itself."""
    lines = (json.dumps(action, sort_keys=True, separators=(",", ":")) for action in actions)
    return sha256("\n".join(lines).encode())


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()


def now_ms() -> int:
    """Milliseconds since the epoch, as the log has times."""
    return time.time_ns() // 1_000_000
