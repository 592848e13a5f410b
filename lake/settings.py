"""Settings: frozen dataclasses filled from defaults < file < environment < flags.

Each room declares its own settings as a frozen dataclass whose fields carry a docstring; this module
only knows how to fill them, and that no number may be absurd. A section ``[spool]`` of the TOML file, the variable
``LAKE_SPOOL_COMMIT_INTERVAL_MS`` and a flag all name the same field; the last one given wins.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import logging
import math
import os
import textwrap
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from lake.errors import SettingsError
from lake.instants import CENTURY_SECONDS

ENV_PREFIX: Final = "LAKE_"
NOT_SETTINGS: Final = frozenset({"ROOT", "CONFIG", "REAL_DATA", "CRASH_AT"})
TEST_PREFIX: Final = "TEST_"
TRUE_WORDS: Final = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS: Final = frozenset({"0", "false", "no", "off"})

SECONDS_OF: Final = {"ms": 1e-3, "s": 1.0, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86_400.0}
"""The last word in the name of a setting that is a time, and how many seconds one of it has."""
NUMBER_MAX: Final = 1 << 53
"""Up to here every whole number is a double too."""

_log = logging.getLogger(__name__)

S = TypeVar("S")


@dataclasses.dataclass(frozen=True, slots=True)
class Sources:
    """The three places settings come from, read once at start."""

    file: Mapping[str, Mapping[str, Any]]
    file_name: str
    environment: Mapping[str, str]

    def section(self, name: str, cls: type[S], flags: Mapping[str, Any] | None = None) -> S:
        """Fill `cls` from section `name`; `flags` that are None count as not given.

        Raises:
            SettingsError: an unknown key, a value of the wrong type, a number that is not one or is absurd, or what
                `cls` itself refuses.
        """
        return self._fill(name, cls, self.file.get(name, {}), flags or {})

    def _fill(self, name: str, cls: type[S], given: Mapping[str, Any], flags: Mapping[str, Any]) -> S:
        fields = _field_types(cls)
        values: dict[str, Any] = {}
        for key, value in given.items():
            place = f"[{name}] {key} in {self.file_name}"
            values[key] = _from_toml(value, _known(key, cls, place), place)
            _check_number(key, values[key], place)
        for key, annotation in fields.items():
            variable = variable_name(name, key)
            if dataclasses.is_dataclass(annotation):
                values[key] = self._fill(
                    f"{name}.{key}", typing.cast("type", annotation), values.get(key, {}), {}
                )
            elif variable in self.environment:
                values[key] = _from_text(self.environment[variable], annotation, variable)
                _check_number(key, values[key], variable)
        for key, value in flags.items():
            if value is not None:
                _check_number(key, value, f"[{name}] {key}")
                values[key] = value
        try:
            return cls(**values)
        except ValueError as error:
            raise SettingsError(f"[{name}] {error}") from error


def read_sources(file: Path | None, sections: Mapping[str, type]) -> Sources:
    """Read the settings file (if given) and the environment, refusing what no section knows.

    A variable whose second word is no section is somebody else's, or a slip: it is passed over with a warning.

    Raises:
        SettingsError: the file is missing or not TOML, or a section, or a variable of one, is unknown.
    """
    content = _read_toml(file) if file else {}
    for name, body in content.items():
        if name not in sections:
            raise SettingsError(f"{file}: section [{name}] is unknown{_did_you_mean(name, sections)}")
        if not isinstance(body, dict):
            raise SettingsError(f"{file}: write settings in a section, such as [{next(iter(sections))}]")
    variables = {k: v for k, v in os.environ.items() if k.startswith(ENV_PREFIX)}
    _check_variables(variables, sections)
    return Sources(content, str(file), variables)


def _check_variables(variables: typing.Iterable[str], sections: Mapping[str, type]) -> None:
    known: set[str] = set()
    renamed: dict[str, str] = {}
    for top, cls in sections.items():
        known.update(variable_name(name, key) for name, key in leaves(top, cls))
        renamed |= _renamed_variables(top, cls)
    for variable in variables:
        key = variable.removeprefix(ENV_PREFIX)
        if variable in known or key in NOT_SETTINGS or key.startswith(TEST_PREFIX):
            continue
        if variable in renamed:
            raise SettingsError(f"environment variable {variable} is now called {renamed[variable]}")
        hint = _did_you_mean(variable, known)
        if key.partition("_")[0].lower() in sections:
            raise SettingsError(f"environment variable {variable} is no setting{hint}")
        _log.warning("environment variable %s is no setting and has no effect%s", variable, hint)


def _renamed_variables(section: str, cls: type) -> dict[str, str]:
    """The variables of settings that had another name once, with their names of today."""
    found = {variable_name(section, old): variable_name(section, new) for old, new in _renamed(cls).items()}
    for key, annotation in _field_types(cls).items():
        if dataclasses.is_dataclass(annotation):
            found |= _renamed_variables(f"{section}.{key}", typing.cast("type", annotation))
    return found


def _renamed(cls: type) -> Mapping[str, str]:
    """Settings of `cls` that had another name once: the new one by the old, where `cls` says so in RENAMED."""
    renamed: Mapping[str, str] = getattr(cls, "RENAMED", {})
    return renamed


def variable_name(section: str, key: str) -> str:
    """The environment variable for a field: ``collect.backoff``, ``first_s`` → ``LAKE_COLLECT_BACKOFF_FIRST_S``."""
    return f"{ENV_PREFIX}{section}_{key}".replace(".", "_").upper()


def leaves(section: str, cls: type) -> typing.Iterator[tuple[str, str]]:
    """Every (section, field) that holds a value, fields of nested settings under ``section.field``."""
    for key, annotation in _field_types(cls).items():
        if dataclasses.is_dataclass(annotation):
            yield from leaves(f"{section}.{key}", typing.cast("type", annotation))
        else:
            yield section, key


def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a settings class, unwrapped to one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = typing.cast("ast.ClassDef", tree.body[0]).body
    docs: dict[str, str] = {}
    for field, doc in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            is_text = isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)
            text = typing.cast("Any", doc).value.value if is_text else ""
            docs[field.target.id] = " ".join(str(text).split())
    return docs


def _field_types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"settings file {file} does not exist") from None
    except OSError as error:
        raise SettingsError(f"settings file {file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # ValueError also of numbers with thousands of digits
        raise SettingsError(f"settings file {file} is not TOML: {error}") from None


def _known(key: str, cls: type, place: str) -> Any:
    fields = _field_types(cls)
    if key in _renamed(cls):
        raise SettingsError(f"{place} is now called {_renamed(cls)[key]}")
    if key not in fields:
        raise SettingsError(f"{place} is no setting{_did_you_mean(key, fields)}")
    return fields[key]


def _check_number(key: str, value: Any, place: str) -> None:
    """Refuse what no setting can mean: not-a-number, infinities, times of centuries, counts no double can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{place} must be a finite number, not {value}")
    unit_s = SECONDS_OF.get(key.rpartition("_")[2])
    if unit_s is not None and abs(value) * unit_s >= CENTURY_SECONDS:
        raise SettingsError(f"{place} must be less than a century, not {_short(value)}")
    if abs(value) >= NUMBER_MAX:
        raise SettingsError(f"{place} must be below 2^53, not {_short(value)}")


def _short(value: float) -> str:
    """A number that may have thousands of digits, as so many as say how large it is."""
    try:
        return f"{float(value):g}"
    except OverflowError:
        return "a number of more than 300 digits"


def _did_you_mean(word: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _unwrap_optional(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        members = [a for a in typing.get_args(annotation) if a is not type(None)]
        return members[0], True
    return annotation, False


def _from_toml(value: Any, annotation: Any, place: str) -> Any:
    kind, _ = _unwrap_optional(annotation)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, dict):
            return value
        raise SettingsError(f"{place} must be a section of its own")
    if typing.get_origin(kind) is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise SettingsError(f"{place} must be a list of strings")
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise SettingsError(f"{place} must be {_word(kind)}, not {value!r}")


def _from_text(text: str, annotation: Any, place: str) -> Any:
    kind, optional = _unwrap_optional(annotation)
    if optional and text == "":
        return None
    if typing.get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() in TRUE_WORDS | FALSE_WORDS:
            return text.lower() in TRUE_WORDS
        raise SettingsError(f"{place} must be true or false, not {text!r}")
    try:
        return Path(text).expanduser() if kind is Path else kind(text)
    except ValueError:
        raise SettingsError(f"{place} must be {_word(kind)}, not {text!r}") from None


def _word(kind: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}.get(
        kind, str(kind)
    )
