"""Settings of the Greeks job."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class ValidateSettings:
    """What `lake greeks --validate` lets pass; everything beyond makes its exit code 1."""

    rows_min: int = 20
    """So many comparable quotes are needed of delta, gamma, vega, theta, rho and iv each; fewer show nothing."""
    delta_rmse_percent: float = 0.005
    """RMSE, in percent of the root mean square of the venue's numbers."""
    vega_rmse_percent: float = 0.005
    """Likewise."""
    rho_rmse_percent: float = 0.005
    """Likewise."""
    theta_rmse_percent: float = 0.02
    """Likewise."""
    rounding_rmse: float = 3e-6
    """RMSE that passes in any case, and the only bound of gamma: numbers rounded to five decimals have 1e-5 / sqrt(12),
    which is 2.9e-6."""
    quote_iv_median_points: float = 0.005
    """Median error of bid_iv and ask_iv: half of the venue's last decimal. The median, because quotes are not atomic: a
    price may be newer than its volatility."""
    iv_median_points: float = 1.0
    """Median error of iv. Marks have four decimals, which moves the volatility of most by less than a tenth of this."""
    known_percent: float = 95.0
    """So many percent of the marks must have a volatility."""
    contradicting_percent: float = 90.0
    """So many percent of the quotes may have a mark_iv that contradicts their mark_price; these are not compared."""

    def __post_init__(self) -> None:
        for one in fields(self):
            if not getattr(self, one.name) >= 0:
                raise ValueError(f"{one.name} must not be negative")


@dataclass(frozen=True, slots=True)
class GreeksSettings:
    """What of the Greeks is stored, and with how much memory it is computed."""

    quotes_every_s: float = 60.0
    """Of quotes, the last of each instrument in every interval of so many seconds is stored; 0 stores all of them.
    In between they are computed on read, which costs less than to keep them (docs/greeks.md)."""

    forward_max_age_s: float = 120.0
    """A forward that did not come with the quote itself may be this old; older ones leave the row null."""

    rows_in_memory: int = 131_072
    """A partition is worked on in ranges of instruments of about this many rows (about 1.5 kB each)."""

    workers: int = 1
    """Processes to work on partitions in; each needs the memory above."""

    validate: ValidateSettings = field(default_factory=ValidateSettings)
    """Bounds of the comparison with the venue."""

    def __post_init__(self) -> None:
        for name in ("rows_in_memory", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("quotes_every_s", "forward_max_age_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
