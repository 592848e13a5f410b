"""Options on coins worth cents: nothing is rounded to what means nothing, in the table as little as on read."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from lake.delta import Table
from lake.root import open_root
from lake.schema import TABLES
from lake.views import query
from pipeline.derive_greeks import sql_greeks

CHAIN = """\
exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,last_price,bid_price,bid_amount,\
bid_iv,ask_price,ask_amount,ask_iv,mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,vega,theta,rho
deribit,TRX_USDC-25DEC26-0D125-C,1795176000000000,1795176000000900,call,0.125,1798185600000000,0,,0.01236869,10000,,\
0.01287354,10000,,0.0126211130,87.65,SYN.TRX_USDC-25DEC26,0.123456,0.53565,11.88601,0.00015,-0.00019,0.00005
deribit,BTC-25DEC26-90000-C,1795176000000000,1795176000000900,call,90000,1798185600000000,0,,0.08,10,,0.09,10,,\
0.0854,60.5,SYN.BTC-25DEC26,90123.45678,0.5,0.00001,110,-60,40
"""


def test_greeks_are_right_to_float_precision(tmp_path: Path) -> None:
    (tmp_path / "chain.csv").write_text(CHAIN)
    for arguments in (
        ["import", "--tardis", "options_chain", str(tmp_path / "chain.csv")],
        ["greeks", "--every", "0s"],
    ):
        done = CliRunner().invoke(app, ["--root", str(tmp_path / "lake"), *arguments])
        assert done.exit_code == 0, done.output
    root = open_root(tmp_path / "lake")
    names = ("vega", "theta", "rho")
    columns = ", ".join(["underlying_price AS forward", *(f"own_{name} AS {name}" for name in names)])
    on_read = query(
        root, f"SELECT {columns} FROM quotes_greeks ORDER BY forward", sql_greeks(root)
    ).to_pylist()
    cheap, dear = query(root, f"SELECT forward, {', '.join(names)} FROM greeks ORDER BY forward").to_pylist()
    assert cheap == pytest.approx(on_read[0], rel=1e-11)
    assert cheap["forward"] == 0.123456
    assert dear == pytest.approx(
        on_read[1], abs=5.1e-5
    )  # decimals of BTC-sized numbers, which keep it small at rest
    table = Table.find(root, TABLES["greeks"])
    assert table is not None
    unrounded = table.read(["instrument", "unrounded"]).to_pylist()
    assert [row["unrounded"] is None for row in unrounded] == [
        row["instrument"].startswith("BTC") for row in unrounded
    ]
