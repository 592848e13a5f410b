"""Whether a SQL statement only reads, decided on what DuckDB makes of it and never on its text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lake.errors import QueryError

if TYPE_CHECKING:
    import duckdb

Parameters = Sequence[Any] | Mapping[str, Any] | None
Node = Mapping[str, Any]  # one operator of a plan: its `name` and its `extra_info`

_EXPLAIN: Final = re.compile(r"\s*explain(\s+analyze\b|\s*\([^)]*\))?", re.IGNORECASE)
_READING_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_WRITING_OPERATOR: Final = re.compile("COPY|INSERT|UPDATE|DELETE|MERGE_INTO|CREATE|EXPORT|ATTACH")


def explained(statement: str) -> str:
    """The one SELECT in `statement`, which may be an EXPLAIN of it.

    Raises:
        QueryError: more than one statement, or of another kind.
        duckdb.ParserException: not SQL.
    """
    import duckdb

    statements = duckdb.extract_statements(statement)
    if len(statements) != 1:
        raise QueryError(f"give one statement, not {len(statements)}")
    found, text = statements[0], statements[0].query
    if found.type == duckdb.StatementType.EXPLAIN:
        text = _EXPLAIN.sub("", text, count=1)
        (found,) = duckdb.extract_statements(text)
    if found.type != duckdb.StatementType.SELECT:
        raise QueryError(f"only statements that read are allowed, not {found.type.name}")
    return text


def check_syntax(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Raise QueryError where any part of the parsed statement is a query that does not only read."""
    (text,) = connection.execute("SELECT json_serialize_sql($1)", [statement]).fetchall()[0]
    tree = json.loads(text)
    if tree["error"]:
        raise QueryError(f"only statements that read are allowed: {tree['error_message']}")
    for kind in _kinds(tree):
        if kind.endswith("_NODE") and kind not in _READING_NODES:
            raise QueryError(f"only statements that read are allowed, not {kind.partition('_')[0]}")


def plan(connection: duckdb.DuckDBPyConnection, statement: str, parameters: Parameters) -> list[Node]:
    """The operators of the statement's plan, without running it.

    Raises:
        duckdb.Error: it cannot be planned, for instance because it names a file.
    """
    rows = connection.execute(f"EXPLAIN (FORMAT json)\n{statement}", parameters).fetchall()
    return list(_operators(json.loads(rows[0][1])))


def check_plan(nodes: Sequence[Node]) -> None:
    """Raise QueryError where an operator of the plan writes; also what the text of a `query('…')` hides."""
    for node in nodes:
        if _WRITING_OPERATOR.search(node["name"]):
            raise QueryError(f"only statements that read are allowed, not {node['name']}")


def _kinds(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get("type"), str):
            yield tree["type"]
        for value in tree.values():
            yield from _kinds(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _kinds(value)


def _operators(tree: Sequence[Any]) -> Iterator[Node]:
    for node in tree:
        yield node
        yield from _operators(node.get("children", []))
