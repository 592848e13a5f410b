"""What a process has to say: one JSON object per line in a rotating file, one line for people on stderr.

Whoever logs only puts the record into a queue; a thread of its own writes it, so that a slow disk or a
stopped terminal never holds up recording. The same message (by its template, before the values are filled in)
gets through so many times a minute, then one line says how many more there were. Credentials in addresses and
what looks like a password or token never reach a line.
"""

from __future__ import annotations

import copy
import datetime
import json
import logging
import logging.handlers
import queue
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from lake.durable import make_dirs
from lake.errors import LakeError, SettingsError
from lake.redaction import redact

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
ROOMS: Final = ("cli", "collectors", "lake", "pipeline", "quality")
"""Loggers of our own; what other libraries say is logged from WARNING up."""
WINDOW_SECONDS: Final = 60.0
_FILE_ONLY: Final = "file_only"

_log = logging.getLogger(__name__)

_Key = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What the daemon logs, on stderr and in files."""

    level: str = "INFO"
    """Least level of our own messages: DEBUG, INFO, WARNING or ERROR."""
    max_bytes: int = 10_000_000
    """A log file is put aside when it would grow beyond so many bytes."""
    backups: int = 5
    """Log files put aside that are kept, beside the current one."""
    repeats_per_minute: int = 20
    """The same message is logged at most so often in a minute; then its number is."""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise SettingsError(f"level {self.level!r}: use one of {', '.join(LEVELS)}")
        for name, least in (("max_bytes", 10_000), ("backups", 1), ("repeats_per_minute", 1)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} {getattr(self, name)}: use a number from {least} up")


class JsonLines(logging.Formatter):
    """A record as one JSON object: at (UTC), level, logger, message, and the traceback in `error`."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "at": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class PlainLines(logging.Formatter):
    """A record as one short line for people; of an exception only its name and words."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message += f" ({record.exc_info[1]!r})"
        line = f"{at:%H:%M:%S} {record.levelname.lower():7} {record.name}: {message}"
        return redact(" ".join(line.splitlines()))


class FloodGuard:
    """Lets each message through `repeats` times a minute, and then says how many more there were."""

    def __init__(self, repeats: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._repeats = repeats
        self._clock_s = clock_s
        self._window_ends_s = clock_s() + WINDOW_SECONDS
        self._seen: Counter[_Key] = Counter()

    def admit(self, record: logging.LogRecord) -> bool:
        """Whether the record gets through; call `summaries` first."""
        key = (record.name, record.levelno, str(record.msg))
        self._seen[key] += 1
        return self._seen[key] <= self._repeats

    def summaries(self, *, closing: bool = False) -> list[logging.LogRecord]:
        """What the window that has ended held back; with `closing`, the window that has not."""
        now_s = self._clock_s()
        if now_s < self._window_ends_s and not closing:
            return []
        seen, self._seen = self._seen, Counter()
        self._window_ends_s = now_s + WINDOW_SECONDS
        return [
            logging.makeLogRecord(
                {
                    "name": name,
                    "levelno": max(level, logging.WARNING),
                    "levelname": logging.getLevelName(max(level, logging.WARNING)),
                    "msg": "%d more within a minute of: %s",
                    "args": (count - self._repeats, template),
                }
            )
            for (name, level, template), count in seen.items()
            if count > self._repeats
        ]


class _Queueing(logging.handlers.QueueHandler):
    """Passes what the guard lets through on to the writing thread."""

    def __init__(self, lines: queue.SimpleQueue[Any], guard: FloodGuard) -> None:
        super().__init__(lines)
        self._guard = guard

    def emit(self, record: logging.LogRecord) -> None:
        for summary in self._guard.summaries():
            super().emit(summary)
        if self._guard.admit(record):
            super().emit(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        filled = copy.copy(record)
        # Filled in now, for the values may change before the thread comes to it.
        filled.msg, filled.args = record.getMessage(), None
        return filled

    def tell_rest(self) -> None:
        """What the guard still held back."""
        for summary in self._guard.summaries(closing=True):
            super().emit(summary)


class _LogFile(logging.handlers.RotatingFileHandler):
    """A rotating file whose trouble, a full disk for instance, is told once and disturbs nobody."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the library's
        del record
        if not self._told:
            self._told = True
            sys.stderr.write(f"lake: {self.baseFilename} cannot be written: {sys.exc_info()[1]}\n")


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the moment: a live display puts itself in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


@contextmanager
def logging_to(folder: Path, name: str, settings: LogSettings) -> Iterator[None]:
    """Log into ``folder/name.log`` and to stderr while the block runs; all is written when it ends.

    An error that ends the block goes into the file; stderr is left to whoever catches it.
    """
    make_dirs(folder)
    file = _LogFile(
        folder / f"{name}.log",
        maxBytes=settings.max_bytes,
        backupCount=settings.backups,
        encoding="utf-8",
        errors="backslashreplace",
    )
    file.setFormatter(JsonLines())
    people = _Stderr()
    people.setFormatter(PlainLines())
    people.addFilter(lambda record: not getattr(record, _FILE_ONLY, False))
    lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
    queueing = _Queueing(lines, FloodGuard(settings.repeats_per_minute))
    writing = logging.handlers.QueueListener(lines, file, people)
    root = logging.getLogger()
    # What the command itself put there for short verbs would say everything twice.
    plain = [handler for handler in root.handlers if type(handler) is logging.StreamHandler]
    levels = {name: logging.getLogger(name).level for name in ("", *ROOMS)}
    for handler in plain:
        root.removeHandler(handler)
    root.addHandler(queueing)
    root.setLevel(max(logging.WARNING, getattr(logging, settings.level)))
    for name in ROOMS:
        logging.getLogger(name).setLevel(settings.level)
    writing.start()
    try:
        yield
    except Exception as error:
        trace = None if isinstance(error, LakeError) else error
        _log.critical("ended by an error: %s", error, exc_info=trace, extra={_FILE_ONLY: True})
        raise
    finally:
        root.removeHandler(queueing)
        queueing.tell_rest()
        writing.stop()
        queueing.close()
        file.close()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for handler in plain:
            root.addHandler(handler)
