"""SQL below any folder: a name is only a name, whatever an engine may read into it."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from lake import plain_paths
from lake.delta import Table
from lake.errors import CorruptionError
from lake.plain_paths import plain_name
from lake.root import Root
from lake.views import query
from tests.store.ticks import DAY, TRADES, new_root, trades

NAMES = [
    "plain", "date=2024-06-30", "family=spot", "date=latest", "a=b", "lake [12]", "tick?", "la*ke", "**", "50%",
    "a b ü#", "it's \"so\"", "{x,y}", "~", "a:b",
]  # fmt: skip


def _filled(folder: Path) -> Root:
    root = new_root(folder)
    rows = pa.concat_tables([trades(0, 3), trades(3, 5, family="spot")])
    Table.open(root, TRADES).append(rows, app="s@1", version=9, origin="i.s.9")
    return root


def _moved(tmp_path: Path, name: str) -> Root:
    root = _filled(tmp_path / "made")
    target = tmp_path / name / "below"
    target.parent.mkdir()
    shutil.move(root.path, target)
    return Root(target)


@pytest.mark.parametrize("name", NAMES)
def test_a_lake_below_any_folder_gives_the_same_answers(tmp_path: Path, name: str) -> None:
    root = _moved(tmp_path, name)
    for sibling in ("lake 1", "tick2", "lasnowflake-ke", "x", "y"):  # what a pattern would find
        shutil.copytree(root.path, tmp_path / sibling / "below", dirs_exist_ok=True)
    assert query(
        root, "SELECT date, family, count(*) AS n FROM trades GROUP BY ALL ORDER BY n"
    ).to_pylist() == [
        {"date": DAY, "family": "spot", "n": 2},
        {"date": DAY, "family": "btc_option", "n": 3},
    ]
    chosen = "SELECT count(*) AS n FROM trades WHERE date = $1 AND family = 'spot'".replace("$1", f"'{DAY}'")
    assert query(root, chosen).to_pylist() == [{"n": 2}]


def test_a_message_names_the_file_where_it_lies(tmp_path: Path) -> None:
    root = _moved(tmp_path, "lake [12]")
    for file in root.table("trades").rglob("*.parquet"):
        file.write_bytes(b"no longer")
    with pytest.raises(CorruptionError, match=r"lake \[12\]/below/tables/trades/date="):
        query(root, "SELECT sum(price) FROM trades")


def test_systems_without_names_for_open_folders_use_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_paths, "_OPEN_FILES", tmp_path / "nothing")
    folder = tmp_path / "a=b [c]"
    folder.mkdir()
    with plain_name(folder) as name:
        assert Path(name).resolve() == folder
        assert "=" not in name
        assert "[" not in name
    assert not Path(name).exists()
    assert query(_moved(tmp_path, "date=2024-06-30"), "SELECT DISTINCT date FROM trades").to_pylist() == [
        {"date": DAY}
    ]


MONTHLY = """
    SELECT ts::DATE AS day, count(*) AS n FROM funding WHERE {condition} GROUP BY ALL ORDER BY ALL
"""


@pytest.fixture
def monthly(tmp_path: Path) -> Root:
    """A row of `funding` every 12 hours from 28 October to 2 December."""
    from lake.conform import conform
    from lake.schema import TABLES

    root, spec = new_root(tmp_path), TABLES["funding"]
    start = dt.datetime(2026, 10, 28, tzinfo=dt.UTC)
    rows = [
        {"venue": "deribit", "instrument": "BTC-PERPETUAL", "ts": start + n * dt.timedelta(hours=12),
         "recv_ts": start, "type": "hourly", "interest_1h": 0.5}
        for n in range(72)
    ]  # fmt: skip
    whole = conform(spec, pa.Table.from_pylist(rows, schema=spec.arrow_schema)).rows
    whole = whole.append_column("date", spec.dates(whole["ts"]))
    whole = whole.append_column("family", pa.array(["btc_perpetual"] * len(rows)))
    Table.open(root, spec).append(whole, app="s@1", version=1, origin="i.s.1")
    return root


@pytest.mark.parametrize(
    ("condition", "days", "files"),
    [
        ("date = '2026-11-30'", ["2026-11-30"], 1),
        ("date BETWEEN '2026-10-31' AND '2026-11-01'", ["2026-10-31", "2026-11-01"], 2),
        ("date IN ('2026-10-30', '2026-12-02')", ["2026-10-30", "2026-12-02"], 2),
        ("date > '2026-11-30'", ["2026-12-01", "2026-12-02"], 2),
        ("date >= '2026-12-01'", ["2026-12-01", "2026-12-02"], 1),
        ("date < '2026-10-29'", ["2026-10-28"], 1),
        ("date < '2026-11-01' AND date > '2026-10-30'", ["2026-10-31"], 1),
        ("date <= '2026-10-28'", ["2026-10-28"], 1),
        ("date = (SELECT max(date) FROM funding)", ["2026-12-02"], 3),
        ("'2026-11-05' = date", ["2026-11-05"], 1),
        ("date = '2026-11-05' AND family = 'btc_perpetual'", ["2026-11-05"], 1),
        ("date = '2026-09-05'", [], 0),
    ],
)
def test_date_is_the_day_of_the_row_also_in_tables_of_months(
    monthly: Root, condition: str, days: list[str], files: int
) -> None:
    from lake.views import connect

    with connect(monthly) as sql:
        found = sql.query(MONTHLY.format(condition=condition)).to_pylist()
        assert [row["day"].isoformat() for row in found] == days
        assert all(row["n"] == 2 for row in found)
        if files:
            assert sql._sql.execute("SELECT len(getvariable('files_funding'))").fetchone() == (files,)
        grouped = sql.query(
            f"SELECT date, count(*) AS n FROM funding WHERE {condition} GROUP BY date ORDER BY date"
        )
        assert [row["date"].isoformat() for row in grouped.to_pylist()] == days
