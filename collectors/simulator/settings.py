"""What a simulated venue can be told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

from lake.errors import SettingsError

DEFAULT_INSTRUMENTS: Final = 300
DEFAULT_FRAMES_PER_SECOND: Final = 1_000.0
MAX_CHANNELS_PER_CALL: Final = 500  # documented suggestion per subscribe call
VENUE_SUBSCRIBE_PER_SECOND: Final = 10 / 3  # documented, as are the ten at once
VENUE_SUBSCRIBE_BURST: Final = 10.0
VENUE_REST_PER_SECOND: Final = 5.0  # careful: for callers without a key the number is unpublished
VENUE_HISTORY_PER_SECOND: Final = 10.0  # clients are known to make 5 to 20
NUMBER_MAX: Final = 1 << 53
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
    subscribe_per_second: float = 0.0
    """Subscribe calls per second that are allowed in the long run, over all sessions; 0: any number. Deribit's are
    10/3 (3,000 credits of 30,000, of which 10,000 come back a second). One more gets 10028 and ends its session."""
    subscribe_burst: float = VENUE_SUBSCRIBE_BURST
    """Subscribe calls allowed at once."""
    past_futures: int = 150
    """How many expired futures the history has: quarters since 2018 first, then months, then weeks."""
    past_options: int = 1_000
    """How many expired options the history has."""
    past_combos: int = 40
    """How many expired combos, half of futures and half of options; their trades are told on their legs too."""
    past_days: int = 0
    """History of so many days before the start; 0: since August 2018."""
    past_trades: int = 2_000
    """The most ordinary trades in the life of an expired instrument; they have between one and this."""
    past_perpetual_trades: int = 2_000
    """About how many trades a perpetual had on a day."""
    past_burst: int = 1_200
    """Trades within the one millisecond of a burst; some tapes have such a millisecond. 0: none."""
    rest_per_second: float = 0.0
    """REST requests per second that are allowed in the long run; 0: any number. Deribit's number is unpublished,
    5 is careful. With a limit, get_instruments has its own of 1 per second and bursts of 50."""
    rest_burst: float = 20.0
    """REST requests allowed at once."""
    history_per_second: float = 0.0
    """The same for the history host, where clients are known to make 5 to 20; 0: any number."""
    history_burst: float = 20.0
    """History requests allowed at once."""
    ban_s: float = 30.0
    """How long a caller gets nothing but HTTP 429 after 10 refusals (10028) within 10 seconds."""
    heartbeat_second_s: float = 1.0
    """Length of one second of a heartbeat interval; tests shorten it."""
    max_pending_bytes: int = MAX_PENDING_BYTES
    """Bytes a session may lag behind before market time waits for it."""

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not least <= value <= most or value >= NUMBER_MAX:
                allowed = f"a number from {least} up, below 2^53" if most == inf else f"{least} to {most}"
                raise SettingsError(f"{name} = {value!r}: give {allowed}")
        if self.replay and self.chain_file:
            raise SettingsError("replay and chain_file exclude each other: give one of them")


_BOUNDS: Final[dict[str, tuple[int, float]]] = {
    "port": (0, 65_535),
    "past_burst": (0, 19_000),
    **dict.fromkeys(
        (
            "rate", "max_frames", "replay_speed", "replay_grace_s", "past_futures", "past_options", "past_combos",
            "past_days", "rest_per_second", "history_per_second", "ban_s",
            "subscribe_per_second",
        ),
        (0, inf),
    ),
    **dict.fromkeys(
        (
            "instruments", "max_channels_per_call", "past_trades", "past_perpetual_trades", "rest_burst",
            "history_burst", "max_pending_bytes", "subscribe_burst",
        ),
        (1, inf),
    ),
}  # fmt: skip
