"""The metrics: what is served is what the beats say, and every one of them is explained to the operator."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collectors.ops.metrics import METRICS, serving
from collectors.ops.settings import MetricsSettings
from lake.beats import INGEST, Beat, beat_path, write_beat
from lake.errors import SettingsError
from tests.ops.kit import collector_beat, ingest_beat

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
Sample = tuple[str, frozenset[tuple[str, str]]]


def scrape(run: Path, latest: Beat | None) -> dict[Sample, float]:
    with (
        serving(MetricsSettings(port=0), run, lambda: latest) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer,
    ):
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sample(name: str, **labels: str) -> Sample:
    return name, frozenset({"stream": "deribit", **labels}.items())


def test_what_is_served_is_what_the_beats_say(tmp_path: Path) -> None:
    write_beat(beat_path(tmp_path, INGEST, "deribit"), ingest_beat())
    write_beat(beat_path(tmp_path, INGEST, "deribit-b"), ingest_beat(stream="deribit-b"))
    found = scrape(tmp_path, collector_beat())
    expected = {
        sample("lake_frames_total", connection="1"): 100,
        sample("lake_frames_total", connection="2"): 10,
        sample("lake_connection_up", connection="2"): 0,
        sample("lake_instruments_subscribed"): 3,
        sample("lake_gaps_open"): 2,
        sample("lake_resyncs_total"): 5,
        sample("lake_still_channels_asked_total"): 7,
        sample("lake_gaps_total", cause="disconnect"): 2,
        sample("lake_gaps_healed_total", cause="trade_seq"): 1,
        sample("lake_spool_durable_lag_seconds"): 0.04,
        sample("lake_spool_commit_seconds", quantile="0.95"): 0.002,
        sample("lake_disk_days_left"): 12.5,
        sample("lake_ingest_lag_seconds", stage="commit"): 2.5,
        sample("lake_ingested_frame_bytes_total", **{"class": "quotes"}): 6000,
        sample("lake_quarantined_records_total"): 4,
        sample("lake_beat_timestamp_seconds", process="ingest"): ingest_beat().at_ns / 1e9,
    }
    assert {key: found.get(key) for key in expected} == expected
    # Each collector serves its own stream: several on one machine would otherwise count twice.
    assert not [labels for _, labels in found if ("stream", "deribit-b") in labels]
    names = {name for name, _ in found}
    assert {spec.name for spec in METRICS} <= names


def test_what_is_not_known_yet_is_left_out(tmp_path: Path) -> None:
    assert not [name for name, _ in scrape(tmp_path, None) if name.startswith("lake_")]
    names = {name for name, _ in scrape(tmp_path, collector_beat())}
    assert "lake_frames_total" in names
    assert not [name for name in names if name.startswith("lake_ingest")]


def test_every_metric_is_in_the_operators_table_with_its_labels_and_no_other() -> None:
    rows = re.findall(
        r"^\| `(lake_[a-z_]+)` \|([^|]*)\| [^|]+ \| [^|]+ \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    written = {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert len(written) == len(rows)
    assert written == {spec.name: spec.labels for spec in METRICS}


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(SettingsError, match=rf"127.0.0.1:{port} cannot be served on"),
            serving(MetricsSettings(port=port), tmp_path, lambda: None),
        ):
            pass


def test_no_port_serves_nothing_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    with serving(MetricsSettings(), tmp_path, lambda: None) as port:
        assert port is None
    with pytest.raises(SettingsError, match="port 70000"):
        MetricsSettings(port=70_000)
