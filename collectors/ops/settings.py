"""What can be set about watching a collector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from lake.errors import SettingsError

PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class HeartbeatSettings:
    """A sign of life to a monitor elsewhere that raises the alarm when it stays away."""

    url: str | None = None
    """Address to GET while data becomes durable, such as https://hc-ping.com/…; `/fail` is appended when recording ends
    in an error; None: off."""
    interval_seconds: float = 900.0
    """Time between two signs of life."""
    timeout_seconds: float = 10.0
    """Longest time for one request."""

    def __post_init__(self) -> None:
        if self.url is not None:
            _check_address(self.url)
        for name in ("interval_seconds", "timeout_seconds"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} {getattr(self, name)}: use a number of seconds above 0")


def _check_address(text: str) -> None:
    """Never repeats the address: whoever knows it can send signs of life."""
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError("url of the heartbeat: give an address that begins with https:// or http://")


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Figures for Prometheus; docs/operating.md says what each means."""

    port: int | None = None
    """Port to serve /metrics on; None: off."""
    host: str = "127.0.0.1"
    """Address to serve on. The figures are for everyone who can reach it."""

    def __post_init__(self) -> None:
        if self.port is not None and not 0 <= self.port <= PORT_MAX:
            raise SettingsError(f"port {self.port}: use a number from 0 to {PORT_MAX}")


@dataclass(frozen=True, slots=True)
class OpsSettings:
    """Both together, for whoever starts a collector."""

    heartbeat: HeartbeatSettings = field(default_factory=HeartbeatSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
