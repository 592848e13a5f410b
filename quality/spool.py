"""What the disk no longer gives back of the spool: told already as a gap, or still to be told by ingest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lake.root import Root
from lake.spool import Damage, read_segment, sealed_segments


@dataclass(frozen=True, slots=True)
class Loss:
    """One place; `told` once the tables have got past it, with a row in `gaps`."""

    text: str
    told: bool


def losses(root: Root, ingested: Mapping[str, int]) -> Iterator[Loss]:
    """Every damage in the sealed segments, and every segment missing between them; `ingested` is how far
    each stream has got. Reads all of the spool."""
    for name in root.streams():
        stream, expected = "", 0
        for segment in sealed_segments(root.stream(name)):
            done = ingested.get(segment.stream, 0)
            # What is before the first segment was ingested and dropped.
            expected = expected if segment.stream == stream else max(done, 0)
            if segment.first_offset > expected:
                what = f"records {expected} to {segment.first_offset - 1} before it are missing"
                yield Loss(f"{segment.path}: {what}", told=segment.first_offset <= done)
            for item in read_segment(segment.path, skip_damage=True):
                if isinstance(item, Damage):
                    what = f"records {item.first_offset} to {item.end_offset - 1} are lost"
                    where = f"{item.reason} at byte {item.position}"
                    yield Loss(f"{segment.path}: {what}: {where}", told=item.end_offset <= done)
            stream, expected = segment.stream, segment.end_offset
