"""Whether the segments of a spool are the ones that `coverage` speaks of.

An offset alone does not say that a record is in the tables: beside newer tables, a spool that went on from an older
state has given the same offsets to other records. Receive times tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lake.spool import SegmentInfo
from pipeline.landing import US_IN_NS, Landing


def first_foreign(target: Landing, segments: Sequence[SegmentInfo]) -> SegmentInfo | None:
    """The first segment whose offsets `coverage` has, but for records received at another time; None if all agree."""
    covered = [segment for segment in segments if segment.first_offset < target.covered]
    if not covered:
        return None
    spans = target.spans()
    firsts, ends = (spans[name].to_numpy() for name in ("first_offset", "end_offset"))
    starts_us, ends_us = (spans[name].cast(pa.int64()).to_numpy() for name in ("start_ts", "end_ts"))
    for segment in covered:
        at = int(np.searchsorted(firsts, segment.first_offset, side="right")) - 1
        if at < 0 or segment.first_offset >= ends[at] or starts_us[at] == ends_us[at]:
            continue
        readable = segment.start_ns < segment.end_ns
        if segment.start_ns // US_IN_NS > ends_us[at] or (
            readable and segment.end_ns // US_IN_NS < starts_us[at]
        ):
            return segment
    return None
