"""Faults that befall single notifications on their way out: lost, sent twice, sent in the wrong order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collectors.simulator.session import Session

Treatment = Literal["lose", "duplicate", "reorder"]


class Notification(NamedTuple):
    """One notification and the sessions it is meant for."""

    sessions: tuple[Session, ...]
    channel: str
    payload: bytes
    seq: object
    prev: int | None


@dataclass
class _Rule:
    treatment: Treatment
    pattern: str
    left: int


class Tampering:
    """The faults still to be applied; `through` gives what is to be done instead of sending a notification."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._held: dict[str, Notification] = {}  # by channel: goes out after the channel's next one

    @property
    def idle(self) -> bool:
        """Whether notifications pass as they are."""
        return not self._rules and not self._held

    def order(self, treatment: Treatment, pattern: str, count: int) -> None:
        """Treat the next `count` notifications of channels like `pattern` (`*` stands for anything)."""
        self._rules.append(_Rule(treatment, pattern, count))

    def through(self, notification: Notification) -> Iterator[tuple[Notification, bool]]:
        """(notification, whether it is lost), in the order of sending."""
        held = self._held.pop(notification.channel, None)
        if held is not None:
            yield notification, False
            yield held, False
            return
        treatment = self._treatment(notification.channel)
        if treatment == "reorder":
            self._held[notification.channel] = notification
            return
        yield notification, treatment == "lose"
        if treatment == "duplicate":
            yield notification, False

    def release(self) -> Iterator[Notification]:
        """What waits for a next notification that will not come any more."""
        yield from self._held.values()
        self._held.clear()

    def _treatment(self, channel: str) -> Treatment | None:
        for rule in self._rules:
            if fnmatchcase(channel, rule.pattern):
                rule.left -= 1
                if not rule.left:
                    self._rules.remove(rule)
                return rule.treatment
        return None
