"""`lake simulate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def simulate(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 picks a free one and prints it.")] = 0,
    seed: Annotated[int, typer.Option(help="Same seed, same market.")] = 1,
    instruments: Annotated[int, typer.Option(help="How many instruments to list.")] = 200,
    rate: Annotated[float, typer.Option(help="Frames per second over all channels.")] = 500.0,
    replay: Annotated[
        list[Path] | None, typer.Option(help="Replay recordings instead: one or more files.")
    ] = None,
    speed: Annotated[float, typer.Option(help="Replay speed; 1 is as recorded, 0 as fast as it goes.")] = 1.0,
    account: Annotated[
        Path | None, typer.Option(help="Write one JSON line per frame sent, or withheld by a fault.")
    ] = None,
    script: Annotated[
        Path | None, typer.Option(help="Faults and their times, TOML or JSON lines: see docs/simulator.md.")
    ] = None,
    limits: Annotated[
        bool,
        typer.Option(
            "--limits/--no-limits", help="Refuse requests and subscribe calls beyond the venue's limits."
        ),
    ] = False,
) -> None:
    """Serve a simulated Deribit (WebSocket and REST) on a local port until interrupted.

    Example: lake simulate --port 8765 --instruments 300 --rate 2000
    """
    import asyncio

    from collectors.simulator import Simulator, SimulatorSettings, run
    from collectors.simulator.settings import (
        VENUE_HISTORY_PER_SECOND,
        VENUE_REST_PER_SECOND,
        VENUE_SUBSCRIBE_PER_SECOND,
    )

    if context.args and not replay:
        raise typer.BadParameter(f"unexpected argument {context.args[0]!r}; recordings follow --replay")
    settings = SimulatorSettings(
        port=port,
        seed=seed,
        instruments=instruments,
        rate=rate,
        replay=(*(replay or ()), *map(Path, context.args)),
        # Recordings may name intervals (.raw) that a collector of today does not ask for.
        replay_everything=True,
        replay_speed=speed,
        account=account,
        script=script,
        rest_per_second=VENUE_REST_PER_SECOND if limits else 0.0,
        subscribe_per_second=VENUE_SUBSCRIBE_PER_SECOND if limits else 0.0,
        history_per_second=VENUE_HISTORY_PER_SECOND if limits else 0.0,
    )

    def tell(venue: Simulator) -> None:
        typer.echo(f"{venue.ws_url}\n{venue.rest_url}\n{venue.history_url}")
        if sys.stderr.isatty():
            typer.echo("\nRecord it, in another terminal:", err=True)
            command = f"lake --root sim-lake collect --ws-url {venue.ws_url} --rest-url {venue.rest_url}"
            typer.echo(f"  {command}\n\nCtrl-C ends it.", err=True)

    asyncio.run(run(settings, tell))
