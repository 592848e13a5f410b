"""The head of a table: which commit is its newest, held apart from the table.

A log can prove that none of its commits was changed, but not that its newest ones are still there: a copy of last
month is a sound log too. So each commit is also entered in `heads/<table>.json`, with the hash of its bytes, the first
commit that must still exist, and the hashes of the checkpoints, all under a checksum. The head is written after the
commit, under the same lock; what a crash leaves between the two is explained by `staging/<table>/pending.json`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from lake.commit_file import Commit, sha256
from lake.delta_log import (
    LAST_CHECKPOINT,
    checkpoint_path,
    checkpoint_versions,
    commit_path,
    commit_versions,
    log_folder,
)
from lake.durable import make_dirs, replace_file
from lake.errors import CorruptionError
from lake.root import Root

_logger = logging.getLogger(__name__)
_CHECKSUM: Final = "checksum"


@dataclass(frozen=True, slots=True)
class Head:
    """What the log of `table` must hold: commits `first` to `version`, the newest with this hash of its bytes.

    `checkpoints` are the hashes of the checkpoint files by version, `last_checkpoint` the text of the file that names
    the newest of them.
    """

    table: str
    version: int
    sha256: str
    first: int = 0
    checkpoints: Mapping[int, str] = field(default_factory=dict)
    last_checkpoint: str | None = None


def head_path(root: Root, table: str) -> Path:
    """Where the head of `table` is."""
    return root.heads / f"{table}.json"


def read_head(root: Root, table: str) -> Head | None:
    """The head of `table`; None where there is none.

    Raises:
        CorruptionError: it is not as it was written.
    """
    try:
        content = head_path(root, table).read_bytes()
    except FileNotFoundError:
        return None
    return decode_head(content, table)


def decode_head(content: bytes, table: str) -> Head:
    """What the bytes of the head of `table` say.

    Raises:
        CorruptionError: they are not as they were written.
    """
    try:
        fields = json.loads(content)
        said = fields.pop(_CHECKSUM)
        if said != _checksum(fields) or fields["table"] != table:
            raise ValueError("checksum")
        fields["checkpoints"] = {int(version): known for version, known in fields["checkpoints"].items()}
        return Head(**fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CorruptionError(f"heads/{table}.json is not as it was written") from None


def write_head(root: Root, head: Head) -> None:
    """Put `head` in the place of the one before, durably. Only under the commit lock."""
    fields = asdict(head)
    fields["checkpoints"] = {str(version): known for version, known in head.checkpoints.items()}
    fields[_CHECKSUM] = _checksum(fields)
    make_dirs(root.heads)
    replace_file(head_path(root, head.table), json.dumps(fields, separators=(",", ":")).encode() + b"\n")


def next_head(root: Root, table: str, version: int, commit: Commit) -> Head:
    """The head after `commit` became `version`; from what there is in the log where the head before does not fit."""
    before = _known(root, table)
    if before is None or before.version != version - 1:
        return take_stock(root, table)
    return replace(before, version=version, sha256=commit.sha256)


def previous_hash(root: Root, table: str, version: int) -> str | None:
    """The hash of the commit before `version`: the head's, which no change of the file since then has touched."""
    before = _known(root, table)
    if before is not None and before.version == version - 1:
        return before.sha256
    path = commit_path(log_folder(root.table(table)), version - 1)
    return sha256(path.read_bytes()) if path.exists() else None


def take_stock(root: Root, table: str) -> Head:
    """The head of the log as it is now. Checkpoints whose hash is known are not read again."""
    log = log_folder(root.table(table))
    before = _known(root, table)
    known = before.checkpoints if before else {}
    commits, checkpoints = commit_versions(log), checkpoint_versions(log)
    version = max([*commits[-1:], *checkpoints[-1:]])
    newest = commit_path(log, version)
    hint = log / LAST_CHECKPOINT
    return Head(
        table=table,
        version=version,
        sha256=sha256(newest.read_bytes()) if newest.exists() else "",
        first=commits[0] if commits else version,
        checkpoints={v: known.get(v) or sha256(checkpoint_path(log, v).read_bytes()) for v in checkpoints},
        last_checkpoint=hint.read_text() if hint.exists() else None,
    )


def renew_head(root: Root, table: str) -> None:
    """Write the head anew where the log is not what it says, with a warning: recording must go on.

    `lake verify` tells of the same before that. Only under the commit lock, with nothing pending.
    """
    try:
        head = read_head(root, table)
        found = take_stock(root, table)
        wrong = _difference(head, found)
    except CorruptionError as error:
        wrong, found = str(error), take_stock(root, table)
    if wrong:
        _logger.warning("table %s: %s; the head is written anew from the table", table, wrong)
        write_head(root, found)


def _difference(head: Head | None, found: Head) -> str | None:
    if head is None:
        return "it has no head"
    if head.version != found.version:
        return at_other_version(found.table, found.version, head.version)
    if head.sha256 != found.sha256:
        return f"its commit {found.version} is not the one that its head knows"
    if (head.checkpoints, head.last_checkpoint) != (found.checkpoints, found.last_checkpoint):
        return "its checkpoints are not those that its head knows"
    return None if head.first >= found.first else f"its commits from {head.first} to {found.first} are gone"


def at_other_version(table: str, version: int, head: int) -> str:
    """In words: the table is at `version`, and its head says another."""
    older = ": an older copy" if version < head else ": commits that its head does not know"
    return f"tables/{table} is at version {version}, its head says {head}{older}"


def _known(root: Root, table: str) -> Head | None:
    try:
        return read_head(root, table)
    except CorruptionError:
        return None


def _checksum(fields: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in fields.items() if name != _CHECKSUM}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
