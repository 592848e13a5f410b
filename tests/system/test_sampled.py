"""The sampled series on their whole way: from the venue's account of what it sent to SQL, and through compaction."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from collectors.settings import SERIES
from collectors.simulator import Sent, SimulatorSettings
from collectors.simulator.account import frame_hash
from collectors.simulator.process import start
from lake.root import Root, open_root
from lake.spool import SpoolSettings
from lake.views import query
from pipeline.chain import chain_rows
from pipeline.compact import compact
from pipeline.ingest import ingest
from tests.pipeline.kit import assert_sound, record_all
from tests.system.kit import account_by_session, records

FRAMES = 12_000
TABLE_OF = {
    "perpetual": "funding",
    "deribit_price_index": "index_prices",
    "deribit_volatility_index": "volatility_index",
    "markprice": "marks",
}


class Recorded:
    """A lake with a simulated market in its tables, and what the market says it sent."""

    def __init__(self, root: Root, account: list[Sent]) -> None:
        self.root = root
        self.account = account

    def rows(self, statement: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = query(self.root, statement).to_pylist()
        return found

    def counts(self) -> dict[str, int]:
        """Frames by table: rows of one frame share a receive time and, in `marks`, the index of their channel."""
        return {
            "funding": self._count("funding WHERE type = 'momentary'", "*"),
            "index_prices": self._count("index_prices", "*"),
            "volatility_index": self._count("volatility_index", "*"),
            "marks": self._count("marks", "DISTINCT (recv_ts, family)"),
        }

    def _count(self, source: str, what: str) -> int:
        [row] = self.rows(f"SELECT count({what}) AS n FROM {source}")
        return int(row["n"])

    def sent(self) -> dict[str, int]:
        """Frames by table, as the venue counted them."""
        found = Counter(
            TABLE_OF[head]
            for s in self.account
            if s.channel and (head := s.channel.split(".")[0]) in TABLE_OF
        )
        return dict(found)

    def data(self, channel: str) -> list[Any]:
        """The data of all recorded frames of a class of channels, read without the decoder."""
        frames = [json.loads(r.payload) for r in records(self.root) if r.is_tick]
        return [f["params"] for f in frames if f["params"]["channel"].split(".")[0] == channel]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("sampled")
    root, account = open_root(folder / "lake", create=True), folder / "account.jsonl"
    settings = SimulatorSettings(instruments=80, rate=0, hold=True, max_frames=FRAMES, account=account)
    with start(settings) as venue:
        summary = record_all(root, venue, SpoolSettings(), series=SERIES)
    assert summary.channels_missing == ()
    ingest(root)
    frames = [r.payload for r in records(root) if r.is_frame]
    [(_, sent)] = account_by_session(account).items()
    sent = sent[: len(frames)]  # the venue may have had more to say when the recording ended
    assert [one.hash for one in sent] == [frame_hash(frame) for frame in frames]
    return Recorded(root, sent)


def test_every_sampled_frame_that_was_sent_is_in_its_table(recorded: Recorded) -> None:
    assert recorded.counts() == recorded.sent()
    assert min(recorded.sent().values()) > 20
    assert_sound(recorded.root)


def test_the_values_are_those_of_the_frames(recorded: Recorded) -> None:
    sent = Counter(
        (mark["instrument_name"], mark["timestamp"], mark["mark_price"], round(mark["iv"] * 100, 2))
        for params in recorded.data("markprice")
        for mark in params["data"]
    )
    held = recorded.rows("SELECT instrument, epoch_ms(ts) AS ms, mark_price, mark_iv FROM marks")
    assert Counter((r["instrument"], r["ms"], r["mark_price"], r["mark_iv"]) for r in held) == sent
    rates = Counter(
        (params["channel"].split(".")[1], params["data"]["timestamp"], params["data"]["interest"])
        for params in recorded.data("perpetual")
    )
    held = recorded.rows(
        "SELECT instrument, epoch_ms(ts) AS ms, interest FROM funding WHERE type = 'momentary'"
    )
    assert Counter((r["instrument"], r["ms"], r["interest"]) for r in held) == rates


def test_funding_and_marks_agree_with_the_tickers_of_the_same_moment(recorded: Recorded) -> None:
    [funding] = recorded.rows(
        "SELECT count(*) AS n, count(*) FILTER (f.interest != q.current_funding) AS apart "
        "FROM funding f JOIN quotes q USING (instrument, ts) WHERE f.type = 'momentary'"
    )
    [marks] = recorded.rows(
        "SELECT count(*) AS n, count(*) FILTER (abs(m.mark_iv - q.mark_iv) > 0.0051) AS apart "
        "FROM marks m JOIN quotes q USING (instrument, ts) WHERE m.mark_price = q.mark_price"
    )
    assert funding["n"] > 0
    assert marks["n"] > 0
    assert (funding["apart"], marks["apart"]) == (0, 0)


def test_the_funding_of_every_past_hour_of_a_day_is_recorded(recorded: Recorded) -> None:
    found = recorded.rows(
        "SELECT instrument, count(*) AS hours, count(DISTINCT ts) AS apart, "
        "bool_and(ts = date_trunc('hour', ts)) AS whole FROM funding WHERE type = 'hourly' GROUP BY ALL"
    )
    perpetuals = recorded.rows("SELECT DISTINCT instrument FROM quotes WHERE instrument LIKE '%-PERPETUAL'")
    assert sorted(row["instrument"] for row in found) == sorted(row["instrument"] for row in perpetuals)
    assert {(row["hours"], row["apart"], row["whole"]) for row in found} == {(24, 24, True)}


def test_the_chain_is_the_last_quote_of_every_option(recorded: Recorded) -> None:
    quotes = recorded.rows(
        "SELECT * EXCLUDE (date) FROM quotes WHERE family LIKE '%_option' ORDER BY ts, recv_ts"
    )
    first, last = quotes[0]["ts"], quotes[-1]["ts"]
    age = datetime.timedelta(seconds=2)
    instants = [first + (last - first) * part / 4 for part in (1, 2, 3)]
    wanted: dict[Any, Any] = {}
    for instant in instants:
        for quote in quotes:
            if instant - age < quote["ts"] <= instant:
                wanted[instant, quote["instrument"]] = quote
    rows = chain_rows(recorded.root, instants, quote_age_max=age).to_pylist()
    assert {(row["ts"], row["instrument"]) for row in rows} == wanted.keys()
    assert len(rows) == len(wanted) > 100
    copied = ("delta", "gamma", "mark_iv", "bid_iv", "underlying_price", "bid_price", "recv_ts")
    for row in rows:
        quote = wanted[row["ts"], row["instrument"]]
        assert row["quote_ts"] == quote["ts"]
        assert [_as_in_sql(row[name]) for name in copied] == [quote[name] for name in copied]


def _as_in_sql(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def test_compaction_keeps_every_sampled_row_by_day_and_by_month(recorded: Recorded) -> None:
    before = recorded.counts()
    dates = recorded.rows("SELECT DISTINCT date FROM funding UNION SELECT DISTINCT date FROM marks")
    report = compact(recorded.root, days=[row["date"] for row in dates], tables=list(TABLE_OF.values()))
    assert {one.table for one in report.rewritten} == set(TABLE_OF.values())
    assert_sound(recorded.root)
    assert sum(one.duplicates for one in report.rewritten) == 0
    assert recorded.counts() == before
