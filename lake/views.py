"""SQL over the lake: DuckDB in memory, one view per table, and no way to write.

DuckDB is locked to the lake's own folder and takes only statements that read. The lock alone would not do:
whatever DuckDB may read it may also overwrite (`COPY … TO … (USE_TMP_FILE false)`), and even a SELECT may
hold a COPY (`WITH x AS (COPY …)`). So every node of the parsed statement and of its plan is looked at.

A statement is planned against empty tables, by a planner without access to any file. That takes a millisecond
and tells which tables it reads, and which days, families and times of each. Only those tables' logs are
loaded, and only files that can hold such rows given to the views: to match 15,000 paths costs DuckDB 130 ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import pyarrow as pa
import pyarrow.types as pat

from lake.delta_log import exists
from lake.derived_views import DERIVED_VIEWS
from lake.errors import CorruptionError, LakeError, LimitExceededError, QueryError
from lake.exact import as_sent_sql
from lake.file_pruning import planned_scans, prune
from lake.interruptible import Interruptible
from lake.leases import Lease, take_lease
from lake.plain_paths import plain_name
from lake.read_only import Parameters, check_plan, check_syntax, explained, plan
from lake.root import Root
from lake.schema import TABLES, UNROUNDED, TableSpec
from lake.sql_limits import SqlSettings, apply_limits, exceeded, spill_folder
from lake.tables import Tables

if TYPE_CHECKING:
    import duckdb  # 20 MB, which whoever asks nothing does not pay

T = TypeVar("T")
_OF_A_FILE: Final = re.compile(r"Failed to read file|[Ff]ile '[^'\n]*\.parquet'")
STREAM_ROWS: Final = 65_536
_HIVE: Final = "hive_partitioning=true, hive_types={'date': DATE, 'family': VARCHAR}"

_DAY: Final = "make_timestamp(epoch_us(ts))::DATE"
"""The UTC day of a row, where the partition says its month only."""


@dataclass(frozen=True, slots=True)
class SqlFunction:
    """A scalar function for SQL: `call` gets a chunk of each argument as Arrow, nulls included, and gives an Arrow
    array of the DuckDB type `returns`. It must depend on its arguments alone.
    """

    name: str
    call: Callable[..., Any]
    parameters: tuple[str, ...]
    returns: str


@dataclass(frozen=True, slots=True)
class Extension:
    """What the layers above add to SQL: functions, and views (statements by name) made of them and of the tables."""

    functions: tuple[SqlFunction, ...] = ()
    views: Mapping[str, str] = field(default_factory=dict)

    def add_to(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Define them; the tables must be there."""
        from duckdb.func import ARROW, SPECIAL

        for one in self.functions:
            connection.create_function(
                one.name, one.call, list(one.parameters), one.returns, type=ARROW, null_handling=SPECIAL
            )
        for name, statement in self.views.items():
            connection.execute(f'CREATE VIEW "{name}" AS {statement}')


class Rows:
    """The rows of an answer, all of them there."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = iter(rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None after the last."""
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that are left."""
        return list(self._rows)


class Connection:
    """SQL over one lake, read only; make it with `connect`, use it in a `with` block.

    Each statement sees every table as it is when the statement starts. Columns of an answer that have the same name are
    told apart as DuckDB's own shell does: `a`, `a_1`. A statement that is interrupted (Ctrl-C) ends at once.
    """

    def __init__(self, root: Root, extension: Extension, settings: SqlSettings) -> None:
        import duckdb

        self._settings = settings
        self._tables = Tables(root)
        self._filled: set[str] = set()
        self._root = root
        self._leases: list[Lease] = []
        self._place = str(root.tables)
        self._planner = duckdb.connect(":memory:")
        self._sql = duckdb.connect(":memory:")
        self._aside = Interruptible(self._interrupt)
        with ExitStack() as opened:
            opened.callback(self._close)
            # Patterns, and values of rows, are found in names of folders by whoever looks for them.
            self._folder = opened.enter_context(plain_name(root.tables))
            self._spill = opened.enter_context(spill_folder(root, settings))
            opened.callback(self._close)
            self._set_up(extension)
            self._opened = opened.pop_all()

    def _set_up(self, extension: Extension) -> None:
        # Emptiness must not be planned with: these tables stand for full ones.
        self._planner.execute("SET disabled_optimizers = 'statistics_propagation'")
        for spec in TABLES.values():
            columns = ", ".join(f'"{name}" {kind}' for name, kind in view_columns(spec).items())
            self._planner.execute(f'CREATE TABLE "{spec.name}" ({columns})')
            self._sql.execute(_empty_view(spec))
        for connection, folders in ((self._planner, []), (self._sql, [self._folder])):
            Extension(views=DERIVED_VIEWS).add_to(connection)
            extension.add_to(connection)
            apply_limits(connection, self._settings, self._spill)
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET python_enable_replacements = false")
            connection.execute("SET allowed_directories = $1", [folders])
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release what DuckDB holds, on disk too."""
        self._opened.close()

    def _close(self) -> None:
        self._release()
        self._aside.close()
        self._planner.close()
        self._sql.close()

    def _interrupt(self) -> None:
        self._planner.interrupt()
        self._sql.interrupt()

    def execute(self, statement: str, parameters: Parameters = None) -> Rows:
        """Run one reading statement to its end; fetch from what is returned.

        Raises:
            QueryError: not one reading statement, or DuckDB refused it; the message is DuckDB's.
            CorruptionError: a file of the lake cannot be read.
            LimitExceededError: it needs more than the settings allow.
        """
        try:
            self._prepare(statement, parameters)
            return Rows(self._run(lambda: self._sql.execute(statement, parameters).fetchall()))
        finally:
            self._release()

    def query(self, statement: str, parameters: Parameters = None) -> pa.Table:
        """As `execute`; the whole answer as Arrow."""
        try:
            self._prepare(statement, parameters)
            answer: pa.Table = self._run(lambda: self._sql.sql(statement, params=parameters).to_arrow_table())
        finally:
            self._release()
        return answer.rename_columns(distinct(answer.column_names))

    def stream(
        self, statement: str, parameters: Parameters = None
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """As `query`, in batches as they are computed, so that an answer may be larger than memory.

        Take all of them, or close the iterator, before the next statement.
        """
        self._prepare(statement, parameters)
        reader = self._run(lambda: self._sql.sql(statement, params=parameters).to_arrow_reader(STREAM_ROWS))
        names = distinct(reader.schema.names)
        schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
        return schema, self._batches(reader, names)

    def _batches(self, reader: pa.RecordBatchReader, names: list[str]) -> Iterator[pa.RecordBatch]:
        leases = self._leases
        try:
            with reader:
                while (batch := self._run(lambda: next(reader, None))) is not None:
                    yield batch.rename_columns(names)
        finally:
            if self._leases is leases:
                self._release()

    def _release(self) -> None:
        for lease in self._leases:
            lease.release()
        self._leases = []

    def _prepare(self, statement: str, parameters: Parameters) -> None:
        """Make sure that the statement only reads, and give the views the files it needs, which stay in place."""
        self._release()
        self._aside.allow(self._settings.seconds)
        self._run(lambda: self._admit(statement, parameters))

    def _admit(self, statement: str, parameters: Parameters) -> None:
        inner = explained(statement)
        check_syntax(self._planner, inner)
        nodes = plan(self._planner, inner, parameters)
        check_plan(nodes)
        for name, scans in sorted(planned_scans(nodes, inner, TABLES).items()):
            # A table that is made only now is empty for this statement: its files would be listed without a lease.
            made = exists(self._root.table(name))
            if made and (lease := take_lease(self._root, name)):
                self._leases.append(lease)
            table = self._tables.find(name) if made else None
            paths = prune(table.listing(), scans, TABLES[name].period) if table else []
            if not paths:
                self._sql.execute(_empty_view(TABLES[name]))
                self._filled.discard(name)
                continue
            files = [f"{self._folder}/{name}/{path}" for path in paths]
            self._sql.execute(f"SET VARIABLE files_{name} = $1", [files])
            if name not in self._filled:
                self._sql.execute(_view(TABLES[name]))
                self._filled.add(name)

    def _run(self, call: Callable[[], T]) -> T:
        """Run a call into DuckDB aside, and raise our own errors in the place of DuckDB's."""
        import duckdb

        try:
            return self._aside.run(call)
        except TimeoutError:
            seconds = self._settings.seconds
            raise LimitExceededError(
                f"the statement was stopped after {seconds:g} s; raise [sql] seconds (0: no limit)"
            ) from None
        except duckdb.OutOfMemoryException as error:
            raise exceeded(str(error), self._settings, self._spill) from None
        except duckdb.IOException as error:
            raise self._corruption(str(error)) from None
        except duckdb.Error as error:
            raise self._translated(str(error)) from None
        except (
            pa.ArrowException,
            OSError,
        ) as error:  # how Arrow hands on what DuckDB met after the first batch
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise self._translated(str(error)) from None

    def _translated(self, message: str) -> LakeError:
        if "Out of Memory Error" in message:
            return exceeded(message, self._settings, self._spill)
        message = message.replace(self._folder, self._place)
        # Of a damaged file the engine says "invalid input", as it does of a wrong argument: only its words differ.
        return self._corruption(message) if _OF_A_FILE.search(message) else QueryError(message)

    def _corruption(self, message: str) -> CorruptionError | LimitExceededError:
        if "Too many open files" in message:
            return LimitExceededError(
                "the statement needs more open files than are allowed; raise `ulimit -n`"
            )
        what, _, _ = message.replace(self._folder, self._place).partition("\n\nLINE ")
        return CorruptionError(f"{what}; run `lake verify`")


def connect(
    root: Root, extension: Extension | None = None, settings: SqlSettings | None = None
) -> Connection:
    """Open the lake for SQL: a view per table of the contract and what `extension` adds, in UTC, nothing writable.

    settings: what a statement may take; by default as in `SqlSettings`, but without a limit of time.
    """
    return Connection(root, extension or Extension(), settings or SqlSettings().without_time())


def query(root: Root, statement: str, extension: Extension | None = None) -> pa.Table:
    """Answer one reading statement over the lake.

    Raises:
        QueryError: not one reading statement, or DuckDB refused it; the message is DuckDB's.
        CorruptionError: a file of the lake cannot be read.
    """
    with connect(root, extension) as connection:
        return connection.query(statement)


def distinct(names: list[str]) -> list[str]:
    """The names of the columns of an answer, each once: a, a, b become a, a_1, b."""
    taken, found = set(names), []
    for name in names:
        told, number = name, 0
        while told in found or (number and told in taken):
            number += 1
            told = f"{name}_{number}"
        found.append(told)
    return found


def view_columns(spec: TableSpec) -> dict[str, str]:
    """Columns of a table's view with their DuckDB types; numbers are DOUBLE, just as the venue sent them."""
    columns = {c.name: _sql_type(c.type) for c in spec.columns if c.name != UNROUNDED}
    return {**columns, "date": "DATE", "family": "VARCHAR"} if spec.partitioned else columns


def _view(spec: TableSpec) -> str:
    stored = {c.name for c in spec.columns}
    told = {name: as_sent_sql(spec, name) if name in stored else name for name in view_columns(spec)}
    if spec.partitioned and spec.period == "month":
        told["date"] = _DAY
    columns = ", ".join(f'{expression} AS "{name}"' for name, expression in told.items())
    hive = _HIVE if spec.partitioned else "hive_partitioning=false"
    source = f"read_parquet(getvariable('files_{spec.name}'), {hive})"
    return f'CREATE OR REPLACE VIEW "{spec.name}" AS SELECT {columns} FROM {source}'  # noqa: S608 - our own names


def _empty_view(spec: TableSpec) -> str:
    columns = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in view_columns(spec).items())
    return f'CREATE OR REPLACE VIEW "{spec.name}" AS SELECT {columns} WHERE false'


def _sql_type(kind: pa.DataType) -> str:
    if pat.is_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    if pat.is_decimal(kind) or pat.is_floating(kind):
        return "DOUBLE"
    if pat.is_timestamp(kind):
        return "TIMESTAMPTZ"
    if pat.is_string(kind):
        return "VARCHAR"
    return {"int64": "BIGINT", "int32": "INTEGER", "int16": "SMALLINT", "int8": "TINYINT", "bool": "BOOLEAN"}[
        str(kind)
    ]
