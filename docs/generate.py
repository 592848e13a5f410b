"""Write the references that come from the code: docs/cli.md, docs/settings.md, docs/tables.md.

python -m docs.generate           write them
python -m docs.generate --check   exit 1 if one is not what the code says
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from pathlib import Path
from typing import Any

import typer.main

from cli import app, sections
from lake.schema import TABLES, UNITS
from lake.settings import field_docs, variable_name

HERE = Path(__file__).resolve().parent


def cli_reference() -> str:
    """Every verb with its options, from the live command tree."""
    group: Any = typer.main.get_command(app)
    parts = ["# The `lake` command\n", "Generated from the command itself by `make docs`.\n"]
    parts += ["Global options come before the verb: `lake --root DIR VERB …`.\n", _options(group)]
    for name, command in _verbs(group):
        text, _, example = command.help.partition("Example: ")
        parts.append(f"## lake {name}\n\n{' '.join(text.split())}\n")
        parts.append(f"```\n{' '.join(example.split())}\n```\n")
        parts.append(_options(command))
    return "\n".join(parts)


def _verbs(group: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Every command by its full name, those of groups after their group."""
    found: list[tuple[str, Any]] = []
    for name, command in group.commands.items():
        found.append((f"{prefix}{name}", command))
        found += _verbs(command, f"{prefix}{name} ") if hasattr(command, "commands") else []
    return found


def _options(command: Any) -> str:
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = parameter.opts + parameter.secondary_opts
        label = "`" + "`, `".join(names) + "`" if names[0].startswith("-") else f"`{parameter.name.upper()}`"
        shown = "" if parameter.default in (None, False) else f"`{_default(parameter.default)}`"
        rows.append(f"| {label} | {shown} | {parameter.help or ''} |")
    return "\n".join(rows) + "\n"


def _default(value: Any) -> str:
    return str(value.value if isinstance(value, enum.Enum) else value)


def settings_reference() -> str:
    """Every setting of every section, with type, default, environment variable and meaning."""
    parts = [
        "# Settings\n",
        "Generated from the code by `make docs`. A setting may stand in the file given with `--config` (TOML),",
        "in the environment, or as a flag where a verb has one; the last of these wins.\n",
    ]
    for section, cls in sections().items():
        parts += _section(section, cls)
    return "\n".join(parts)


def _section(section: str, cls: type) -> list[str]:
    docs = field_docs(cls)
    nested: list[str] = []
    parts = [f"## [{section}]\n", "| setting | default | environment | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        if field.default_factory is not dataclasses.MISSING:
            nested += _section(f"{section}.{field.name}", typing.get_type_hints(cls)[field.name])
        else:
            variable = variable_name(section, field.name)
            parts.append(f"| `{field.name}` | `{field.default}` | `{variable}` | {docs[field.name]} |")
    return [*parts, "", *nested]


def tables_reference() -> str:
    """The schema contract."""
    parts = [
        "# Tables\n",
        "Generated from the contract in `lake/schema` by `make docs`. The SQL views show the same columns,",
        "numbers as DOUBLE, and `date` and `family` where a table is partitioned: `date` is the UTC day of the row",
        "in every view, also where the partition, which other readers of the files see under this name, is a month.",
        "A column of one name has one unit in all tables (`lake/schema/units.py`).\n",
    ]
    for table in TABLES.values():
        parts += [f"## {table.name}\n", f"{table.doc}\n"]
        parts.append(f"One row per: {', '.join(f'`{name}`' for name in table.natural_key)}.\n")
        parts += ["| column | stored as | null | unit | meaning |", "|---|---|---|---|---|"]
        for column in table.columns:
            null, unit = "yes" if column.nullable else "", UNITS.get(column.name, "")
            parts.append(f"| `{column.name}` | {column.type} | {null} | {unit} | {column.doc} |")
        parts.append("")
    return "\n".join(parts)


def main() -> int:
    """Write or check; returns the exit code."""
    pages = {"cli.md": cli_reference(), "settings.md": settings_reference(), "tables.md": tables_reference()}
    stale = []
    for name, content in pages.items():
        path = HERE / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != content:
                stale.append(name)
        else:
            path.write_text(content, encoding="utf-8")
    if stale:
        sys.stderr.write(f"docs: {', '.join(stale)} is not what the code says; run `make docs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
