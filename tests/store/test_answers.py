"""Answers of types that not every form can hold: they go out readable, or are refused with the cure."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.answers import write_answer
from lake.display import show
from lake.errors import InputError

SPANS = {
    "INTERVAL '12.510687 seconds'": ("PT12.510687S", "12.510687 s"),
    "TIMESTAMP '2026-01-01' - TIMESTAMP '2026-01-03 00:00:00.5'": ("P-2DT-0.5S", "-2 days -00:00:00.5"),
    "INTERVAL '1 year 2 months 1 day 90 minutes'": ("P1Y2M1DT5400S", "14 months 1 day 01:30:00"),
    "INTERVAL '-14 months'": ("P-1Y-2M", "-14 months"),
    "INTERVAL '0 s'": ("PT0S", "0 s"),
}


def asked(expression: str) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    with duckdb.connect() as sql:
        relation = sql.sql(f"SELECT {expression} AS value")
        assert relation is not None
        answer = relation.to_arrow_table()
    return answer.schema, answer.to_batches()


def written(expression: str, form: str, folder: Path) -> Any:
    path = folder / f"answer.{form}"
    write_answer(*asked(expression), form, path)
    match form:
        case "csv":
            [row] = csv.DictReader(path.read_text().splitlines())
        case "json":
            [row] = json.loads(path.read_text())
        case _:
            [row] = pq.read_table(path).to_pylist()
    return row["value"]


@pytest.mark.parametrize("expression", SPANS)
def test_spans_of_time_go_out_in_every_form(
    expression: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, person = SPANS[expression]
    assert {written(expression, form, tmp_path) for form in ("csv", "json", "parquet")} == {program}
    show(asked(expression)[1][0].to_pylist())
    assert capsys.readouterr().out.split("\n")[3].strip() == person


def test_a_type_that_a_form_does_not_have_is_refused_with_the_cure(tmp_path: Path) -> None:
    kind = pa.dense_union([pa.field("a", pa.int64()), pa.field("b", pa.string())])
    path = tmp_path / "answer.parquet"
    with pytest.raises(InputError, match="cast it to VARCHAR"):
        write_answer(pa.schema([pa.field("value", kind)]), [], "parquet", path)
    assert not path.exists()
