"""What an option's price depends on: from listings, else from names."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.derive_greeks.terms import NO_EXPIRY, Listings, OptionTerms, named, terms_of
from tests.derive_greeks import kit

EXPIRY = int(dt.datetime(2026, 12, 25, 8, tzinfo=dt.UTC).timestamp()) * 1_000_000


def listed(instrument: str, *, seen: int = 0, **terms: Any) -> dict[str, Any]:
    """A row of `instruments`."""
    born, dies = dt.datetime(2026, 9, 1, tzinfo=dt.UTC), dt.datetime(2026, 12, 25, 8, tzinfo=dt.UTC)
    return {
        "venue": "deribit", "instrument": instrument, "valid_from": kit.DAY_US + seen, "kind": "option",
        "instrument_type": "reversed", "base_currency": "BTC", "quote_currency": "BTC", "option_type": "call",
        "strike": 76000.0, "creation_ts": born, "expiration_ts": dies, **terms,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("BTC-25DEC26-76000-C", OptionTerms(76000.0, EXPIRY, True, True, "BTC")),
        ("BTC_USDC-25DEC26-76000-P", OptionTerms(76000.0, EXPIRY, False, False, "BTC_USDC")),
        ("XRP_USDC-25DEC26-0d625-C", OptionTerms(0.625, EXPIRY, True, False, "XRP_USDC")),
        ("BTC-25DEC26", None),
        ("BTC-PERPETUAL", None),
        ("BTC-CS-25DEC26-70000_75000", None),
        ("nonsense", None),
    ],
)
def test_a_name_tells_the_terms_of_an_option_and_of_nothing_else(
    name: str, terms: OptionTerms | None
) -> None:
    assert named(name) == terms


def test_the_newest_listing_decides_over_older_ones_and_the_name(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    later = dt.datetime(2026, 12, 25, 16, tzinfo=dt.UTC)
    rows = [
        listed("BTC-25DEC26-76000-C", seen=2, strike=76500.0, expiration_ts=later),
        listed("BTC-25DEC26-76000-C", seen=1),
        listed("BTC-25DEC26-80000-C", strike=80000.0, instrument_type="linear", quote_currency="USDC"),
    ]
    kit.append(root, "instruments", rows)
    listing = Listings.read(root)
    assert listing.get("BTC-25DEC26-76000-C") == OptionTerms(
        76500.0, EXPIRY + 8 * 3_600_000_000, True, True, "BTC"
    )
    linear = listing.get("BTC-25DEC26-80000-C")
    assert linear is not None
    assert not linear.inverse
    assert listing.get("BTC-25DEC26-90000-C") is None


def test_a_listing_without_what_matters_leaves_it_to_the_name(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    kit.append(root, "instruments", [listed("BTC-25DEC26-76000-C", strike=None)])
    listing = Listings.read(root)
    assert listing.get("BTC-25DEC26-76000-C") is None
    assert terms_of(["BTC-25DEC26-76000-C"], listing).strike.tolist() == [76000.0]


def test_only_options_of_the_family_that_lived_on_the_day_count(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    at = dt.datetime.combine(kit.DAY, dt.time(), dt.UTC)
    rows = [
        listed("BTC-25DEC26-76000-C"),
        listed("BTC-25DEC26-77000-C", creation_ts=at + dt.timedelta(days=1)),
        listed("BTC-25DEC26-78000-C", expiration_ts=at - dt.timedelta(seconds=1)),
        listed("BTC-25DEC26-79000-C", creation_ts=None),
        listed("ETH-25DEC26-7900-C", base_currency="ETH"),
        listed("BTC-25DEC26", kind="future", option_type=None, strike=None),
    ]
    kit.append(root, "instruments", rows)
    alive = Listings.read(root).alive("btc_option", kit.DAY)
    assert sorted(alive) == ["BTC-25DEC26-76000-C", "BTC-25DEC26-79000-C"]


def test_terms_as_arrays_share_one_number_per_expiry_and_have_holes_for_strangers(tmp_path: Path) -> None:
    nobody = Listings.read(kit.lake(tmp_path / "lake"))
    names = ["BTC-25DEC26-76000-C", "stranger", "BTC-25DEC26-76000-P", "BTC-30OCT26-76000-P"]
    terms = terms_of(names, nobody)
    assert terms.chain.tolist() == [0, -1, 0, 1]
    assert terms.expiry[1] == NO_EXPIRY
    assert terms.chains[0] == ("BTC", EXPIRY)
    assert terms.take(np.array([3, 3])).strike.tolist() == [76000.0, 76000.0]
