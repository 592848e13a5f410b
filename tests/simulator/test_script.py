"""Scripts: read, refused with line and cure, played; and the documentation of every order."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from collectors.simulator import Simulator, SimulatorSettings
from collectors.simulator.orders import ORDERS, Drop, DropAll, Gap, HalfOpen, List, Order, State
from collectors.simulator.process import start
from collectors.simulator.script import load_script, play
from lake.errors import InputError
from tests.simulator.support import Client, run

DOCUMENT = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
NAMES = ("BTC-PERPETUAL", "ETH-PERPETUAL")


def block(language: str) -> str:
    """The documentation's example in a language."""
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None
    return found[1]


def script(folder: Path, text: str, name: str = "script.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_documented_scripts_can_be_read(tmp_path: Path) -> None:
    steps = load_script(script(tmp_path, block("toml")), NAMES)
    assert [step.at_s for step in steps] == [2.0, 4.0, 6.0, 6.0, 12.0, 15.0, 30.0]
    assert steps[0].order == Gap(instrument="BTC-PERPETUAL", count=3)
    assert steps[3].order == Drop(code=1012, reason="service restart")
    assert steps[4].order == List(instrument="BTC-25DEC26-123000-C")
    lines = load_script(script(tmp_path, block("json"), "script.jsonl"), NAMES)
    assert [step.order for step in lines] == [steps[0].order, HalfOpen()]


def test_the_documented_script_plays_against_a_venue(tmp_path: Path) -> None:
    hurried = re.sub(r'at = "(\d+)s"', r'at = "\g<1>0ms"', block("toml")).replace(
        "seconds = 5", "seconds = 0.05"
    )
    settings = SimulatorSettings(instruments=20, rate=2_000.0, script=script(tmp_path, hurried))

    async def scenario() -> None:
        async with Simulator(settings) as simulator, Client(simulator.ws_url) as client:
            await client.call("public/subscribe", channels=["book.BTC-PERPETUAL.100ms"])
            while await client.receive() is not None:
                pass
            assert client.close_code == 1012
            assert simulator._script_task is not None
            await simulator._script_task
            assert "BTC-25DEC26-123000-C" in (simulator.feed.instruments() or ())

    run(scenario())


def test_every_order_and_parameter_is_documented() -> None:
    rows = {
        name: row
        for row in DOCUMENT.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert set(rows) == set(ORDERS)
    for name, kind in ORDERS.items():
        told = re.findall(r"`(\w+)`", rows[name].split("|")[2])
        assert sorted(set(told) & set(kind.__struct_fields__)) == sorted(kind.__struct_fields__), name


STEP = '[[step]]\nat = "5s"\naction = "drop_all"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"script\.toml: no step; write"),
        ("step = 3", r"script\.toml: a script has \[\[step\]\] tables only"),
        ("[[steps]]\nat = '1s'", r"found steps"),
        ("step = [{at = '1s', action = 'stats'}]", r"table of its own"),
        ("[[step]\n", r"script\.toml: not TOML: .*line 1"),
        (
            STEP + '\n[[step]]\nat = "5"\naction = "drop_all"',
            r"script\.toml:5: at = '5': write a time such as",
        ),
        (STEP + "[[step]]\naction = 'drop_all'", r"script\.toml:4: at = None"),
        (
            STEP + "[[step]]\nat = '1s'\naction = 'explode'",
            r"script\.toml:4: no action 'explode'; give one of",
        ),
        (STEP + "[[step]]\nat = '1s'\naction = 'gap'", r"script\.toml:4: gap: .*it takes instrument, count"),
        (
            "[[step]]\nat = '1s'\naction = 'gap'\ninstrument = 'BTC-PERP'",
            r"script\.toml:1: no instrument 'BTC-PERP' is listed then; name one such as BTC-PERPETUAL",
        ),
    ],
)
def test_a_wrong_script_is_told_with_line_and_cure(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        load_script(script(tmp_path, text), NAMES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[step]]", r"script\.jsonl:1: .*"),
        ("\n7", r"script\.jsonl:2: a step is an object"),
        ("\n{nothing", r"script\.jsonl:2: not a JSON object .* named \.toml"),
        ('{"at": "1s", "action": "speak", "x": 1}', r"script\.jsonl:1: speak: .*no parameters"),
    ],
)
def test_wrong_json_lines_are_told_with_line_and_cure(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_script(script(tmp_path, text, "script.jsonl"))


def test_an_unreadable_script_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml: cannot be read"):
        load_script(tmp_path / "nowhere.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"bytes\.toml: cannot be read \(not UTF-8\)"):
        load_script(tmp_path / "bytes.toml")


def test_steps_are_played_in_order_and_what_fails_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        {"at": "30ms", "action": "state", "instrument": "BTC-PERPETUAL", "state": "halted"},
        {"at": "10ms", "action": "drop", "session": 9},
        {"at": "0s", "action": "drop_all"},
    ]
    steps = load_script(script(tmp_path, "\n".join(map(json.dumps, lines)), "script.jsonl"))
    done: list[Order] = []

    async def do(order: Order) -> None:
        if isinstance(order, Drop):
            raise InputError("session 9 is not connected")
        done.append(order)

    asyncio.run(play(steps, do))
    assert done == [DropAll(), State(instrument="BTC-PERPETUAL", state="halted")]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/script.jsonl:2: left out: session 9 is not connected"
    ]


def test_the_command_refuses_a_wrong_script_in_one_line(tmp_path: Path) -> None:
    wrong = script(tmp_path, STEP.replace("drop_all", "explode"))
    result = CliRunner().invoke(app, ["simulate", "--script", str(wrong)])
    assert result.exit_code != 0
    told = str(result.exception) if isinstance(result.exception, InputError) else result.output
    assert f"{wrong}:1: no action 'explode'" in told


def test_a_process_follows_a_script_and_answers_about_books(tmp_path: Path) -> None:
    steps = '[[step]]\nat = "0s"\naction = "state"\ninstrument = "BTC-PERPETUAL"\nstate = "halted"\n'

    async def listen(url: str) -> None:
        async with Client(url) as client:
            await client.call("public/subscribe", channels=["instrument.state.any.any"])
            await client.collect(1)
            assert b"halted" in client.notifications[0]

    with start(SimulatorSettings(instruments=3, rate=10.0, script=script(tmp_path, steps))) as venue:
        run(listen(venue.ws_url))
        truth = venue.control("book", instrument="BTC-PERPETUAL")
        assert truth["bids"][0][0] < truth["asks"][0][0]
        with pytest.raises(InputError, match="session 7 is not connected"):
            venue.control("drop", session=7)
