"""The spool: raw records, durable within a tenth of a second of arrival, in segments that explain themselves.

with SpoolWriter(root.stream("deribit"), SpoolSettings()) as writer:
    writer.append(frame)
for info in sealed_segments(root.stream("deribit")):
    for batch in read_segment(info.path):
        ...
"""

from lake.spool.reader import SegmentInfo, open_segments, read_segment, sealed_segments, segment_info
from lake.spool.records import Batch, Damage, RecordKind, SegmentDamagedError
from lake.spool.recovery import RecoveryReport, TornTail, recover
from lake.spool.retention import drop_segments
from lake.spool.settings import SpoolSettings
from lake.spool.stats import SpoolStats
from lake.spool.stream import AskTables, PreviousLife, StreamReach
from lake.spool.writer import SpoolWriter

__all__ = [
    "AskTables",
    "Batch",
    "Damage",
    "PreviousLife",
    "RecordKind",
    "RecoveryReport",
    "SegmentDamagedError",
    "SegmentInfo",
    "SpoolSettings",
    "SpoolStats",
    "SpoolWriter",
    "StreamReach",
    "TornTail",
    "drop_segments",
    "open_segments",
    "read_segment",
    "recover",
    "sealed_segments",
    "segment_info",
]
