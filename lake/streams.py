"""The process's standard streams as they may be: closed, a pipe nobody reads, a terminal that lacks letters."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from lake.errors import InputError


def as_texts(arguments: Sequence[str]) -> list[str]:
    """Arguments as the UTF-8 they are written in, whatever the locale took them for.

    Raises:
        InputError: an argument is no UTF-8.
    """
    return [_as_text(argument, number) for number, argument in enumerate(arguments, 1)]


def _as_text(argument: str, number: int) -> str:
    if not any("\udc80" <= letter <= "\udcff" for letter in argument):
        return argument
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        shown = argument.encode("ascii", "backslashreplace").decode()
        raise InputError(f"argument {number}, '{shown}', is not UTF-8; write it so") from None


@contextmanager
def streams_minded() -> Iterator[None]:
    """Run a whole command: letters that standard output lacks are replaced, and it is written out at the end.

    Where it is closed or cannot take what is written, one line says so, and the process ends with exit code 1; a
    reader that has gone away is told nothing.
    """
    closed = _occupy_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        try:
            yield
        except OSError as error:
            if error.errno != errno.EBADF or not closed:
                raise
            _give_up(error)
    finally:
        try:
            sys.stdout.flush()  # now, while an error can still be told
        except OSError as error:
            _give_up(error)


def _occupy_closed() -> bool:
    """Put something in the place of closed streams, lest a file of the lake get their number; whether output is."""
    closed = sys.stdout is None
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Output is opened for reading: to write there fails, as it should.
            nothing = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115
    return closed


def _give_up(error: OSError) -> None:
    """Standard output takes nothing any more: say so, and see that the interpreter's end does not try again."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    if error.errno != errno.EPIPE:
        sys.stderr.write(f"lake: standard output cannot be written: {error.strerror}\n")
    sys.exit(1)
