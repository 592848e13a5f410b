"""Listings of every year become rows of terms, as sent."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collectors.deribit.columns import INSTRUMENTS
from collectors.deribit.instruments import RefusedInstrument, decode_creation, decode_instruments
from lake.errors import SchemaDriftError, VenueRefusedError
from tests.deribit import independent

SEEN_NS = 1_789_344_931_096_123_456
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CREATION = dict(independent.hand_made())["control: instrument creation"]
RENAMED = {
    "instrument": "instrument_name",
    "creation_ts": "creation_timestamp",
    "expiration_ts": "expiration_timestamp",
}


def assert_as_sent(body: bytes, entries: list[dict[str, Any]]) -> None:
    table = decode_instruments(body, SEEN_NS)
    assert table.schema == INSTRUMENTS
    assert table.num_rows == len(entries) > 0
    for row, entry in zip(table.to_pylist(), entries, strict=True):
        assert row.pop("venue") == "deribit"
        assert micros(row.pop("valid_from")) == SEEN_NS // 1000
        steps = row.pop("tick_size_steps")
        assert (None if steps is None else json.loads(steps)) == entry.get("tick_size_steps")
        for name, value in row.items():
            sent = entry.get(RENAMED.get(name, name))
            if name.endswith("_ts") and sent is not None:
                value, sent = micros(value), sent * 1000
            assert value == sent, (name, entry)


def micros(moment: datetime) -> int:
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def test_listings_of_2021_to_2025_are_kept_as_sent(real_data: Path) -> None:
    archives = sorted((real_data / "rest").glob("deribit.*.json.zst"))
    assert len(archives) == 12
    for archive in archives:
        body = unpacked(archive)
        assert_as_sent(body, json.loads(body))


def test_responses_of_2021_and_2022_are_kept_as_sent(real_data: Path) -> None:
    name = "deribit_get_instruments_2021-07-22_BTC_ETH_and_2022-05_SOL_USDC.txt.zst"
    bodies = [
        line.partition(b": ")[2]
        for line in unpacked(real_data / "rest" / name).splitlines()
        if line.startswith(b"http")
    ]
    assert [len(json.loads(body)["result"]) for body in bodies] == [398, 426, 177, 16]
    for body in bodies:
        assert_as_sent(body, json.loads(body)["result"])


def test_listings_of_2019_and_2026_are_kept_as_sent(real_data: Path) -> None:
    oldest = (real_data / "rest" / "deribit_xchange_2019_examples.jsonl").read_text().splitlines()
    entry = next(json.loads(line)["_msg"] for line in oldest if "example-instrument.json" in line)
    assert_as_sent(json.dumps({"result": entry}).encode(), [entry])
    seen = 0
    for name in ("deribit_2026-09_control_rpc_and_misc.jsonl", "deribit_nautilus_fixtures_2025-2026.jsonl"):
        for line in (real_data / "ws" / name).read_text().splitlines():
            note = json.loads(line)
            if "get_instrument" in note["_file"]:
                result = note["_msg"]["result"]
                assert_as_sent(
                    json.dumps(note["_msg"]).encode(), result if isinstance(result, list) else [result]
                )
                seen += 1
    assert seen == 6


def unpacked(path: Path) -> bytes:
    return subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout


def test_an_announced_instrument_is_a_row() -> None:
    [row] = decode_creation(CREATION, SEEN_NS).to_pylist()
    assert row["instrument"] == "BTC-16SEP26-77000-C"
    assert row["instrument_id"] == 225046781992378368
    assert row["tick_size_steps"] == '[{"above_price":0.005,"tick_size":0.0005}]'
    assert row["expiration_ts"] == datetime(2026, 9, 16, 8, tzinfo=UTC)
    assert row["settlement_currency"] is None


def test_perpetuals_keep_their_expiry_in_the_year_3000() -> None:
    body = b'[{"instrument_name":"BTC-PERPETUAL","kind":"future","expiration_timestamp":32503708800000}]'
    [row] = decode_instruments(body, SEEN_NS).to_pylist()
    assert row["expiration_ts"] == datetime(3000, 1, 1, 8, tzinfo=UTC)


def test_equal_terms_are_equal_texts() -> None:
    steps = [b'[{"above_price":0.005,"tick_size":5e-4}]', b'[ {"tick_size": 0.0005, "above_price": 0.005} ]']
    bodies = [
        b'[{"instrument_name":"BTC-1JAN27","kind":"future","tick_size_steps":%b}]' % text for text in steps
    ]
    first, second = (decode_instruments(body, SEEN_NS) for body in bodies)
    assert first.equals(second)


def test_an_entry_that_does_not_fit_is_refused_alone_where_refusals_are_wanted() -> None:
    body = b'{"result":[{"instrument_name":"A"},{"instrument_name":"BTC-1JAN27","kind":"future"},5]}'
    refused: list[RefusedInstrument] = []
    table = decode_instruments(body, SEEN_NS, refused)
    assert table["instrument"].to_pylist() == ["BTC-1JAN27"]
    assert [entry.index for entry in refused] == [0, 2]
    assert "kind" in refused[0].reason
    with pytest.raises(SchemaDriftError, match=r"instrument 0 of the listing.*kind"):
        decode_instruments(body, SEEN_NS)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"5", b'"x"', b"[", b'{"result":5}', b'{"result":"ok"}', b'{"result":null}', b"[" * 100_000],
)
def test_what_is_no_listing_is_refused(body: bytes) -> None:
    with pytest.raises(SchemaDriftError):
        decode_instruments(body, SEEN_NS)


def test_an_error_of_the_venue_is_told() -> None:
    with pytest.raises(VenueRefusedError, match="10028"):
        decode_instruments(b'{"error":{"code":10028,"message":"too_many_requests"}}', SEEN_NS)


def test_an_announcement_without_terms_is_refused() -> None:
    with pytest.raises(SchemaDriftError, match="kind"):
        decode_creation(CREATION.replace(b'"kind"', b'"knid"'), SEEN_NS)
