"""The figures for Prometheus: made from the last beats when somebody asks, at no cost to any frame.

Every metric is one line of `METRICS`, by which the families are made and docs/operating.md is checked.
Sums begin at zero with the process that they are of, as counters of Prometheus may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collectors.ops.settings import MetricsSettings
from lake.beats import COLLECT, INGEST, Beat, CollectorFigures, beat_path, read_beat
from lake.errors import SettingsError

NS_PER_S: Final = 1e9

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float | None]]
"""Values of the labels after `stream`, and the value; None is left out."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric: `read` takes its samples from a beat's figures."""

    name: str
    meaning: str
    read: Callable[[Any], Samples]
    labels: Labels = ()

    @property
    def is_sum(self) -> bool:
        return self.name.endswith("_total")


def _one(read: Callable[[Any], float | None]) -> Callable[[Any], Samples]:
    return lambda figures: [((), read(figures))]


def _by_connection(field: str) -> Callable[[CollectorFigures], Samples]:
    return lambda figures: [((str(c.number),), getattr(c, field)) for c in figures.connections]


def _by_key(read: Callable[[Any], Mapping[str, int]]) -> Callable[[Any], Samples]:
    return lambda figures: [((key,), value) for key, value in read(figures).items()]


def _by_process(read_ns: Callable[[Beat], int]) -> Callable[[Mapping[str, Beat]], Samples]:
    return lambda beats: [((process,), read_ns(beat) / NS_PER_S) for process, beat in beats.items()]


def _quantiles(figures: CollectorFigures) -> Samples:
    spool = figures.spool
    return [
        (("0.5",), spool.commit_p50_s),
        (("0.95",), spool.commit_p95_s),
        (("0.99",), spool.commit_p99_s),
    ]


CONNECTION: Final = ("connection",)
CAUSE: Final = ("cause",)

OF_BEATS: Final = (
    Spec(
        "lake_beat_timestamp_seconds",
        "When the process last gave its figures",
        _by_process(lambda beat: beat.at_ns),
        ("process",),
    ),
    Spec(
        "lake_start_timestamp_seconds",
        "When the process began",
        _by_process(lambda beat: beat.began_ns),
        ("process",),
    ),
)
OF_COLLECTOR: Final = (
    Spec("lake_frames_total", "Frames received", _by_connection("frames"), CONNECTION),
    Spec("lake_frame_bytes_total", "Bytes of frames received", _by_connection("frame_bytes"), CONNECTION),
    Spec(
        "lake_unknown_frames_total",
        "Frames that are neither data nor replies",
        _by_connection("unknown_frames"),
        CONNECTION,
    ),
    Spec("lake_connection_up", "1 while connected and subscribed", _by_connection("up"), CONNECTION),
    Spec(
        "lake_reconnects_total",
        "Times the connection was made again",
        _by_connection("reconnects"),
        CONNECTION,
    ),
    Spec(
        "lake_channels_expected",
        "Channels that ought to flow",
        _by_connection("channels_expected"),
        CONNECTION,
    ),
    Spec(
        "lake_channels_subscribed",
        "Channels the venue acknowledged",
        _by_connection("channels_subscribed"),
        CONNECTION,
    ),
    Spec("lake_instruments_expected", "Instruments to record", _one(lambda f: f.instruments_expected)),
    Spec(
        "lake_instruments_subscribed",
        "Instruments of which every channel is acknowledged",
        _one(lambda f: f.instruments_subscribed),
    ),
    Spec(
        "lake_gaps_open",
        "Gaps that are open right now",
        _one(lambda f: f.open_gaps_count),
    ),
    Spec("lake_gaps_total", "Gaps written down", _by_key(lambda f: f.gaps), CAUSE),
    Spec(
        "lake_gaps_healed_total", "Gaps whose data was fetched again", _by_key(lambda f: f.gaps_healed), CAUSE
    ),
    Spec("lake_resyncs_total", "Books subscribed anew", _one(lambda f: f.resyncs)),
    Spec(
        "lake_still_channels_asked_total",
        "Questions about channels that were still while others spoke",
        _one(lambda f: f.still_asked),
    ),
    Spec(
        "lake_spool_durable_lag_seconds",
        "Age of the oldest record not on disk yet",
        _one(lambda f: f.spool.durable_lag_s),
    ),
    Spec("lake_spool_pending_records", "Records not on disk yet", _one(lambda f: f.spool.pending_records)),
    Spec("lake_spool_pending_bytes", "Memory they hold", _one(lambda f: f.spool.pending_bytes)),
    Spec("lake_spool_commit_seconds", "Time to write and fsync one commit", _quantiles, ("quantile",)),
    Spec("lake_spool_records_total", "Records made durable", _one(lambda f: f.spool.durable_records)),
    Spec("lake_spool_written_bytes_total", "Bytes written for them", _one(lambda f: f.spool.bytes_written)),
    Spec(
        "lake_spool_dropped_records_total",
        "Records lost because memory was full",
        _one(lambda f: f.spool.dropped_records),
    ),
    Spec("lake_spool_disk_full", "1 while the spool waits for space", _one(lambda f: f.spool.disk_full)),
    Spec("lake_disk_free_bytes", "Free space where the lake is", _one(lambda f: f.disk.free_bytes)),
    Spec("lake_disk_size_bytes", "Size of that file system", _one(lambda f: f.disk.total_bytes)),
    Spec(
        "lake_disk_days_left",
        "Days until it is full at the pace of the last day",
        _one(lambda f: f.disk.days_left),
    ),
)
OF_INGEST: Final = (
    Spec(
        "lake_ingest_lag_seconds",
        "Age of the newest record when it was decoded, and when committed",
        lambda f: [(("decode",), f.decode_lag_s), (("commit",), f.commit_lag_s)],
        ("stage",),
    ),
    Spec(
        "lake_ingest_newest_timestamp_seconds",
        "Receive time of the newest record in the tables",
        _one(lambda f: None if f.committed_ns is None else f.committed_ns / NS_PER_S),
    ),
    Spec("lake_ingest_failed_rounds_total", "Rounds that ended in an error", _one(lambda f: f.failed_rounds)),
    Spec(
        "lake_ingested_frames_total",
        "Frames brought into the tables",
        _by_key(lambda f: f.frames),
        ("class",),
    ),
    Spec(
        "lake_ingested_frame_bytes_total",
        "Bytes of those frames",
        _by_key(lambda f: f.frame_bytes),
        ("class",),
    ),
    Spec("lake_rows_total", "Rows appended", _by_key(lambda f: f.rows), ("table",)),
    Spec(
        "lake_quarantined_records_total", "Records put into quarantine", _one(lambda f: f.quarantined_records)
    ),
)
METRICS: Final = (*OF_BEATS, *OF_COLLECTOR, *OF_INGEST)


class BeatCollector(Collector):
    """The families of the collector's last beat, and of its ingester's, read from the `run` folder when asked."""

    def __init__(self, run: Path, latest: Callable[[], Beat | None]) -> None:
        self._run = run
        self._latest = latest

    def collect(self) -> Iterator[Metric]:
        """The families, each with what is known now."""
        beat = self._latest()
        ingest = read_beat(beat_path(self._run, INGEST, beat.stream)) if beat else None
        beats = {process: one for process, one in ((COLLECT, beat), (INGEST, ingest)) if one is not None}
        stream = beat.stream if beat else ""
        yield from _families(OF_BEATS, stream, beats or None)
        yield from _families(OF_COLLECTOR, stream, beat and beat.collector)
        yield from _families(OF_INGEST, stream, ingest and ingest.ingest)

    def describe(self) -> Iterator[Metric]:
        """The families without values, by which the registry finds names taken twice."""
        return _families(METRICS, "", None)


def _families(specs: Iterable[Spec], stream: str, figures: Any) -> Iterator[Metric]:
    """One family per spec, without samples where there are no figures."""
    for spec in specs:
        family = _family(spec)
        for labels, value in spec.read(figures) if figures is not None else ():
            if value is not None:
                family.add_metric((stream, *labels), float(value))
        yield family


def _family(spec: Spec) -> GaugeMetricFamily | CounterMetricFamily:
    kind = CounterMetricFamily if spec.is_sum else GaugeMetricFamily
    return kind(spec.name, spec.meaning, labels=("stream", *spec.labels))


@contextmanager
def serving(settings: MetricsSettings, run: Path, latest: Callable[[], Beat | None]) -> Iterator[int | None]:
    """Serve /metrics while the block runs; yields the port, None where that is off.

    Raises:
        SettingsError: the address cannot be had.
    """
    if settings.port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(BeatCollector(run, latest))
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(settings.port, settings.host, registry)
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        raise SettingsError(
            f"[metrics] {place} cannot be served on ({error.strerror}); set another port"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
