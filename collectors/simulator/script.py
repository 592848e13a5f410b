"""Scripts: orders with their times, read from TOML or JSON lines and checked before anything starts.

TOML has one `[[step]]` table per order, JSON lines (`.jsonl`) one object per line; each with `at` (`"500ms"`,
`"5s"`, `"2m"`, `"1h"`), `action` and the parameters of that action.
"""

from __future__ import annotations

import asyncio
import logging
import re
import tomllib
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from collectors.simulator.orders import List, Order, read_order
from lake.errors import InputError

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_STEP: Final = re.compile(r"\s*\[\[\s*step\s*\]\]")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """One order, due `at_s` seconds after the first subscription; `place` is its file and line."""

    at_s: float
    order: Order
    place: str


def load_script(path: Path, instruments: Collection[str] | None = None) -> tuple[Step, ...]:
    """The steps of a script in the order of their times.

    With `instruments`, orders may only name these, or one that an earlier step lists.

    Raises:
        InputError: the file cannot be read, or a step is wrong; the message names the line and the cure.
    """
    try:
        content = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"{path}: cannot be read ({reason})") from None
    found = _json_lines(path, content) if path.suffix == ".jsonl" else _toml(path, content)
    steps = sorted((_step(fields, place) for fields, place in found), key=lambda step: step.at_s)
    if not steps:
        raise InputError(
            f"{path}: no step; write [[step]] tables (TOML), or JSON lines in a file named .jsonl"
        )
    if instruments is not None:
        _check_instruments(steps, set(instruments))
    return tuple(steps)


async def play(steps: tuple[Step, ...], do: Callable[[Order], Awaitable[object]]) -> None:
    """Carry out the steps at their times from now; one that cannot be done is logged and left out."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for step in steps:
        await asyncio.sleep(max(start + step.at_s - loop.time(), 0.0))
        try:
            await do(step.order)
        except InputError as error:
            _log.warning("%s: left out: %s", step.place, error)


def _json_lines(path: Path, content: str) -> Iterator[tuple[Any, str]]:
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            yield msgspec.json.decode(line), place
        except msgspec.DecodeError as error:
            raise InputError(f"{place}: not a JSON object ({error}); a TOML script is named .toml") from None


def _toml(path: Path, content: str) -> Iterator[tuple[Any, str]]:
    try:
        whole = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}; a script of JSON lines is named .jsonl") from None
    steps = whole.get("step", [])
    if whole.keys() - {"step"} or not isinstance(steps, list):
        raise InputError(f"{path}: a script has [[step]] tables only; found {', '.join(whole)}")
    lines = [n for n, line in enumerate(content.splitlines(), start=1) if _STEP.match(line)]
    if len(lines) != len(steps):
        raise InputError(f"{path}: write every step as a [[step]] table of its own")
    for number, fields in zip(lines, steps, strict=True):
        yield fields, f"{path}:{number}"


def _step(fields: Any, place: str) -> Step:
    if not isinstance(fields, dict):
        raise InputError(f'{place}: a step is an object such as {{"at": "5s", "action": "drop_all"}}')
    at = fields.get("at")
    match = _DURATION.fullmatch(at) if isinstance(at, str) else None
    if match is None:
        raise InputError(f'{place}: at = {at!r}: write a time such as "500ms", "5s" or "2m"')
    try:
        order = read_order({key: value for key, value in fields.items() if key != "at"})
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    return Step(float(match[1]) * _SECONDS[match[2]], order, place)


def _check_instruments(steps: list[Step], listed: set[str]) -> None:
    for step in steps:
        name = getattr(step.order, "instrument", None)
        if isinstance(step.order, List):
            listed.add(step.order.instrument)
        elif name is not None and name not in listed:
            near = min(listed, key=lambda known: (known[:3] != name[:3], known))
            raise InputError(f"{step.place}: no instrument {name!r} is listed then; name one such as {near}")
