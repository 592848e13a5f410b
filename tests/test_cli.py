"""The command from outside: exit codes, one-line advice, machine-readable output."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from cli import app
from lake.beats import COLLECT, beat_path, write_beat
from lake.invocation import as_seconds
from lake.root import Root, open_root
from pipeline.ingest import ingest
from tests.ops.kit import collector_beat
from tests.pipeline import kit

runner = CliRunner()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A small lake with ingested rows."""
    root = kit.record_market(tmp_path_factory.mktemp("cli") / "lake", frames=1500, instruments=30)
    ingest(root)
    return root


def run(root: Root | Path, *arguments: str) -> Result:
    path = root.path if isinstance(root, Root) else root
    return runner.invoke(app, ["--root", str(path), *arguments])


def test_every_verb_has_help_with_an_example() -> None:
    for name in ("demo", "simulate", "collect", "ingest", "compact", "sql", "verify", "status"):
        result = runner.invoke(app, [name, "--help"])
        assert result.exit_code == 0
        assert "Example: lake" in result.stdout, name


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["sql", "SELECT * FROM quote"], "quote"),
        (["sql", "SELECT bid FROM quotes"], "bid"),
        (["sql", "SELEC 1"], "SELEC"),
        (["sql", "SELECT 1", "--format", "parquet"], "add --out FILE.parquet"),
        (
            ["sql", "SELECT 1", "--format", "csv", "--out", "/nonexistent/x.csv"],
            "/nonexistent/x.csv cannot be written",
        ),
        (["collect", "--ws-url", "nonsense"], "give an address that begins with wss://, ws://"),
        (["collect", "--rest-url", "http://"], "give an address that begins with https://, http://"),
        (["ingest", "--stream", "nope"], "there is no stream 'nope' in the spool"),
        (
            ["backfill", "trades", "--from", "2026-01-02", "--to", "2026-01-01"],
            "--from 2026-01-02 is after --to 2026-01-01",
        ),
        (["sql", "SELECT 1", "--out", "answer.txt"], "give a name that ends so"),
        (["compact", "--table", "quote"], "there is no table 'quote'"),
        (["compact", "--date", "yesterday"], "write it like 2026-11-20"),
        (["collect", "--for", "soon"], "write it like 20s, 10m or 2h"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(lake: Root, arguments: list[str], advice: str) -> None:
    result = run(lake, *arguments)
    assert result.exit_code == 2, result.output
    assert advice in result.output
    assert "Traceback" not in result.output


def test_folder_that_is_no_lake_is_named_with_the_cure(tmp_path: Path) -> None:
    for verb in ("ingest", "compact", "verify", "status"):
        result = run(tmp_path / "nothing", verb)
        assert result.exit_code == 2
        assert "is not a lake; start one with" in result.output


def test_unknown_setting_is_refused_before_anything_runs(tmp_path: Path) -> None:
    config = tmp_path / "lake.toml"
    config.write_text("[spool]\nsegment_second = 3\n")
    result = runner.invoke(app, ["--config", str(config), "--root", str(tmp_path / "x"), "status"])
    assert result.exit_code == 2
    assert "did you mean segment_seconds?" in result.output


def test_sql_answers_in_every_format(lake: Root, tmp_path: Path) -> None:
    statement = (
        "SELECT instrument, count(*) AS n FROM quotes GROUP BY ALL ORDER BY n DESC, instrument LIMIT 3"
    )
    table = run(lake, "sql", statement)
    csv = run(lake, "sql", statement, "--format", "csv")
    as_json = run(lake, "sql", statement, "--format", "json")
    file = tmp_path / "out.parquet"
    assert run(lake, "sql", statement, "--format", "parquet", "--out", str(file)).exit_code == 0
    rows = pq.read_table(file).to_pylist()
    assert json.loads(as_json.stdout) == rows
    assert csv.stdout.splitlines()[1:] == [f'"{row["instrument"]}",{row["n"]}' for row in rows]
    assert all(row["instrument"] in table.stdout for row in rows)


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO '{root}/tables/x.parquet'",
        "COPY (SELECT 1) TO '/tmp/lake-should-not-exist.csv'",
        "CREATE TABLE t AS SELECT 1; COPY t TO '{root}/lake.json'",
        "ATTACH '{root}/x.duckdb'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "DELETE FROM quotes",
        "DROP VIEW quotes",
    ],
)
def test_sql_cannot_write_or_look_elsewhere(lake: Root, statement: str) -> None:
    before = sorted(str(p) for p in lake.path.rglob("*") if "locks" not in p.parts)
    marker = (lake.path / "lake.json").read_bytes()
    run(lake, "sql", statement.format(root=lake.path))
    assert sorted(str(p) for p in lake.path.rglob("*") if "locks" not in p.parts) == before
    assert (lake.path / "lake.json").read_bytes() == marker
    assert not Path("/tmp/lake-should-not-exist.csv").exists()
    if "DELETE" not in statement and "DROP" not in statement:
        assert run(lake, "sql", statement.format(root=lake.path)).exit_code == 2


def test_status_and_verify_speak_json(lake: Root) -> None:
    status = json.loads(run(lake, "status", "--json").stdout)
    sections = {"collectors", "open gaps", "ingesters", "tables", "streams", "gaps", "disk", "book checks"}
    assert sections == set(status)
    assert [row["waiting"] for row in status["streams"]] == [0]
    verified = run(lake, "verify", "--json")
    assert verified.exit_code == 0, verified.output
    assert any(row["checked"] == "proof holds" for row in json.loads(verified.stdout))


def test_verify_finds_a_flipped_bit_and_exits_1(lake: Root, tmp_path: Path) -> None:
    damaged = kit.copy_of(lake, tmp_path / "damaged")
    victim = _largest_file_of_quotes(damaged)
    group = pq.read_metadata(victim).row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    chunk = max(
        chunks, key=lambda one: one.total_compressed_size
    )  # mostly rows; a header has bits without a meaning
    content = bytearray(victim.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    victim.write_bytes(content)
    result = run(damaged, "verify")
    assert result.exit_code == 1
    assert victim.name in result.output


def test_status_shows_the_rest_of_a_damaged_lake_and_sends_to_verify(lake: Root, tmp_path: Path) -> None:
    damaged = kit.copy_of(lake, tmp_path / "damaged")
    victim = _largest_file_of_quotes(damaged)
    victim.write_bytes(victim.read_bytes()[:1000])
    (damaged.path / "tables" / "trades" / "_delta_log" / f"{0:020}.json").write_text("no JSON")
    told = run(damaged, "status")
    assert told.exit_code == 1
    assert "index_prices" in told.stdout
    for name in ("quotes", "trades"):
        assert any(f"table {name}: " in line and "`lake verify`" in line for line in told.stderr.splitlines())
    assert run(damaged, "status", "--json").exit_code == 1
    asked = run(damaged, "sql", "SELECT max(mark_price) FROM quotes")
    assert asked.exit_code == 1
    assert victim.name in asked.stderr
    assert asked.stderr.endswith("run `lake verify`\n")


def test_verify_finds_bounds_in_the_log_that_hide_rows(lake: Root, tmp_path: Path) -> None:
    damaged = kit.copy_of(lake, tmp_path / "damaged")
    for commit in (damaged.path / "tables" / "quotes" / "_delta_log").glob("*.json"):
        text = commit.read_text()
        commit.write_text(re.sub(r'(maxValues.{1,99}?"ts\\":\\")\d{4}', r"\g<1>2001", text))
    told = run(damaged, "verify")
    assert told.exit_code == 1, told.output
    assert "holds ts beyond the bounds in the log" in told.stderr


def _largest_file_of_quotes(root: Root) -> Path:
    files = (root.path / "tables" / "quotes").rglob("*.parquet")
    return max(files, key=lambda path: path.stat().st_size)


def test_newer_lake_is_left_alone(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    (root.path / "lake.json").write_text('{"format": "ticklake", "layout": 99}')
    result = run(root, "status")
    assert result.exit_code == 2
    assert "install a newer ticklake" in result.output


def test_durations_are_read_with_their_unit() -> None:
    assert [as_seconds(text) for text in ("500ms", "20s", "1.5m", "2h", "1d")] == [0.5, 20, 90, 7200, 86400]


def test_lake_that_holds_nothing_yet_is_sound_and_stays_untouched_by_looking(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    before = sorted(str(path) for path in root.path.rglob("*"))
    assert run(root, "verify").exit_code == 0
    assert run(root, "status").exit_code == 0
    assert run(root, "sql", "SELECT count(*) FROM quotes").exit_code == 0
    assert sorted(str(path) for path in root.path.rglob("*")) == before


def test_stream_of_no_venue_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    result = run(tmp_path / "lake", "collect", "--no-ingest", "--stream", "main", "--for", "1s")
    assert result.exit_code == 2
    assert "begin the name with the venue" in result.output


def test_status_tells_of_processes_that_ran_before_and_watching_needs_a_terminal(
    lake: Root, tmp_path: Path
) -> None:
    copy = kit.copy_of(lake, tmp_path / "lake")
    write_beat(beat_path(copy.run, COLLECT, kit.STREAM), collector_beat(state="stopped", stream=kit.STREAM))
    [collector] = json.loads(run(copy, "status", "--json").stdout)["collectors"]
    assert collector["stream"] == "deribit"
    assert collector["collector"].startswith("stopped cleanly at ")
    assert "stopped cleanly at" in run(copy, "status").stdout
    refused = run(copy, "status", "--watch")
    assert refused.exit_code == 2
    assert "--watch is for a terminal" in refused.output


def test_a_recording_that_fails_says_so_in_one_line_in_its_log_and_in_status(tmp_path: Path) -> None:
    path = tmp_path / "lake"
    urls = ["--ws-url", "ws://127.0.0.1:9", "--rest-url", "http://127.0.0.1:9"]
    config = tmp_path / "lake.toml"
    config.write_text("[collect]\nrest_attempts = 1\n")
    arguments = ["--config", str(config), "--root", str(path), "collect", "--no-ingest", *urls]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    [line] = [line for line in result.stderr.splitlines() if "127.0.0.1" in line]
    assert line.startswith("lake: ")
    *_, last = (path / "logs" / "collect-deribit.log").read_text().splitlines()
    assert json.loads(last)["message"] == "ended by an error: " + line.removeprefix("lake: ")
    [collector] = json.loads(run(path, "status", "--json").stdout)["collectors"]
    assert collector["collector"].endswith(line.removeprefix("lake: "))
    assert collector["collector"].startswith("failed at ")


def test_a_setting_of_the_watch_is_checked_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKE_HEARTBEAT_URL", "ftp://host/secret-id")
    result = run(tmp_path / "lake", "status")
    assert result.exit_code == 2
    assert "begins with https://" in result.output
    assert "secret-id" not in result.output


def test_a_place_that_cannot_hold_a_lake_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(tmp_path / "file" / "lake", "import", "--tardis", "trades", "x.csv")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"lake: {tmp_path}/file/lake cannot be used: Not a directory"
    result = runner.invoke(app, ["--config", str(tmp_path), "status"])
    assert result.exit_code == 2
    assert result.stderr == f"lake: settings file {tmp_path} cannot be read: Is a directory\n"


def test_a_large_answer_is_cut_for_people_and_whole_for_programs(lake: Root, tmp_path: Path) -> None:
    shown = run(lake, "sql", "SELECT range AS n FROM range(200_000)")
    assert shown.exit_code == 0
    assert "999 " in shown.stdout
    assert "1,001" not in shown.stdout
    assert "the first 1,000 rows" in shown.stderr
    for name, rows_in in (("n.csv", _csv_rows), ("n.json", _json_rows), ("n.parquet", _parquet_rows)):
        out = tmp_path / name
        result = run(lake, "sql", "SELECT range AS n FROM range(200_000)", "--out", str(out))
        assert result.exit_code == 0, result.output
        assert rows_in(out) == list(range(200_000)), name


def test_a_query_that_fails_half_way_leaves_no_file(lake: Root, tmp_path: Path) -> None:
    late = "SELECT if(range < 900_000, '1', 'x')::INT FROM range(1_000_000)"
    result = run(lake, "sql", late, "--out", str(tmp_path / "n.csv"))
    assert result.exit_code == 2, result.output
    assert "Could not convert string 'x'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def _csv_rows(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()[1:]]


def _json_rows(path: Path) -> list[int]:
    return [row["n"] for row in json.loads(path.read_text())]


def _parquet_rows(path: Path) -> list[int]:
    return list(pq.read_table(path)["n"].to_pylist())
