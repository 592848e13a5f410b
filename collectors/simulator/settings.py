"""What a simulated venue can be told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lake.errors import SettingsError

DEFAULT_INSTRUMENTS: Final = 300
DEFAULT_FRAMES_PER_SECOND: Final = 1_000.0
MAX_CHANNELS_PER_CALL: Final = 500  # documented suggestion per subscribe call
MAX_PENDING_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """A simulated venue: a generated market, or a recording when `replay` names files."""

    port: int = 0
    """Local port; 0 takes a free one."""
    seed: int = 1
    """Same seed, rate and start: the same market, frame for frame."""
    instruments: int = DEFAULT_INSTRUMENTS
    """How many instruments are listed (perpetuals and futures included)."""
    rate: float = DEFAULT_FRAMES_PER_SECOND
    """Ticker, book and trade frames per second of wall clock over all instruments; 0: as fast as possible.

    A market cannot send a channel more often than every 100 ms: above that, simulated time runs faster
    than the wall clock."""
    start_ms: int | None = None
    """Venue time at the start, ms since epoch UTC; by default, now."""
    chain_file: Path | None = None
    """Parquet or JSON list with a column `instrument_name`: list these instead of the built-in chain."""
    hold: bool = False
    """Market time stands still until the first subscription."""
    max_frames: int = 0
    """Stop the market after about this many generated frames (to the end of a 10 ms step); 0: never."""
    replay: tuple[Path, ...] = ()
    """Recorded sessions to send instead of a generated market."""
    replay_speed: float = 1.0
    """1 is the recorded pace; 0 is as fast as possible."""
    replay_everything: bool = False
    """Send every recorded frame to every subscribed session, whatever it subscribed to."""
    replay_grace_s: float = 1.0
    """How long after the last subscribe call the replay waits for channels nobody subscribed to yet."""
    account: Path | None = None
    """File that receives one JSON line per frame sent."""
    script: Path | None = None
    """Orders with their times, counted from the first subscription; TOML, or JSON lines (`.jsonl`)."""
    max_channels_per_call: int = MAX_CHANNELS_PER_CALL
    """A longer list in one subscribe call is refused with -32600."""
    heartbeat_second_s: float = 1.0
    """Length of one second of a heartbeat interval; tests shorten it."""
    max_pending_bytes: int = MAX_PENDING_BYTES
    """Bytes a session may lag behind before market time waits for it."""

    def __post_init__(self) -> None:
        limits = (
            ("port", self.port, 0 <= self.port <= 65_535, "0 to 65535"),
            ("instruments", self.instruments, self.instruments >= 1, "at least 1"),
            ("rate", self.rate, self.rate >= 0, "0 or more frames per second"),
            ("replay_speed", self.replay_speed, self.replay_speed >= 0, "0 or more"),
            ("replay_grace_s", self.replay_grace_s, self.replay_grace_s >= 0, "0 or more seconds"),
            ("max_frames", self.max_frames, self.max_frames >= 0, "0 or more"),
            (
                "max_channels_per_call",
                self.max_channels_per_call,
                self.max_channels_per_call >= 1,
                "at least 1",
            ),
            ("max_pending_bytes", self.max_pending_bytes, self.max_pending_bytes >= 1, "at least 1"),
        )
        for name, value, good, allowed in limits:
            if not good:
                raise SettingsError(f"{name} = {value!r}: give {allowed}")
        if self.replay and self.chain_file:
            raise SettingsError("replay and chain_file exclude each other: give one of them")
