"""Request limits, bans, and answers that are none."""

from __future__ import annotations

from dataclasses import replace

import aiohttp
import pytest

from collectors.simulator.limits import BannedError, Limits
from collectors.simulator.orders import read_order
from collectors.simulator.rpc import TOO_MANY_REQUESTS, RpcError
from lake.errors import InputError
from tests.simulator.history_kit import SETTINGS
from tests.simulator.support import START_MS, asked, order, run


def answers(limits: Limits, times: list[float], method: str = "get_time") -> list[str]:
    """What became of requests at these times."""
    found = []
    for at in times:
        try:
            limits.admit(method, f"n={at}", at)
            found.append("yes")
        except RpcError as error:
            found.append("refused" if error.code == TOO_MANY_REQUESTS else str(error))
        except BannedError:
            found.append("banned")
    return found


def test_a_pool_allows_its_burst_and_then_its_rate() -> None:
    limits = Limits(5.0, 3.0, 30.0)
    assert answers(limits, [0.0] * 4) == ["yes"] * 3 + ["refused"]
    assert answers(limits, [0.1, 0.2, 0.3, 0.4]) == ["refused", "yes", "refused", "yes"]
    steady = answers(limits, [10.0 + n / 5.0 for n in range(1_000)])
    assert steady == ["yes"] * 1_000
    told = limits.told()
    assert (told["requests"], told["refused"], told["bans"]) == (1_008, 3, 0)
    assert told["utilisation"] == pytest.approx(1_008 / (5.0 * told["span_s"]))


def test_who_goes_on_is_shut_out_for_a_time() -> None:
    limits = Limits(5.0, 1.0, 30.0)
    assert answers(limits, [0.0] * 12) == ["yes"] + ["refused"] * 10 + ["banned"]
    assert answers(limits, [29.9, 30.0]) == ["banned", "yes"]
    told = limits.told()
    assert (told["bans"], told["shut_out"], told["refused"]) == (1, 2, 10)
    rare = Limits(0.05, 1.0, 30.0)
    assert "banned" not in answers(rare, [n * 1.2 for n in range(100)]), "refusals far apart are forgiven"


def test_listing_instruments_has_its_own_pool() -> None:
    limits = Limits(5.0, 1.0, 30.0)
    assert answers(limits, [0.0] * 51, "get_instruments") == ["yes"] * 50 + ["refused"]
    assert answers(limits, [1.0, 1.5, 2.0], "get_instruments") == ["yes", "refused", "yes"]
    assert answers(limits, [2.0]) == ["yes"], "the other pool is untouched"


def test_without_a_limit_everything_is_admitted_and_counted() -> None:
    limits = Limits(0.0, 1.0, 30.0)
    assert answers(limits, [0.0] * 500) == ["yes"] * 500
    assert limits.told()["repeated"] == 499
    limits.reset()
    assert limits.told()["requests"] == 0


def test_over_http_a_refusal_is_400_and_a_ban_429() -> None:
    settings = replace(SETTINGS, rest_per_second=0.01, rest_burst=2, history_per_second=0.01, history_burst=5)

    async def scenario() -> None:
        async with asked(settings) as (simulator, get), aiohttp.ClientSession() as http:
            for _ in range(2):
                assert await get("get_time") == START_MS
            assert (await get("get_time", status=400))["code"] == TOO_MANY_REQUESTS
            for _ in range(5):
                assert await get("get_time", "history"), "each host has its own"
            for _ in range(9):
                await get("get_time", status=400)
            async with http.get(f"{simulator.rest_url}/public/get_time") as response:
                assert response.status == 429
            told = await order(simulator, "limits", reset=True)
            assert told["limits"]["www"] | {"span_s": 0, "utilisation": 0} == {
                "requests": 13, "by_method": {"get_time": 13}, "repeated": 12, "refused": 10, "shut_out": 1,
                "bans": 1, "banned": True, "per_second": 0.01, "span_s": 0, "utilisation": 0,
            }  # fmt: skip
            assert told["limits"]["history"]["bans"] == 0
            assert (await order(simulator, "limits"))["limits"]["www"]["requests"] == 0

    run(scenario())


def test_answers_are_spoiled_on_command() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get), aiohttp.ClientSession() as http:

            async def raw(url: str) -> tuple[int, str, bytes]:
                async with http.get(f"{url}/public/get_time") as response:
                    return response.status, response.content_type, await response.read()

            await order(simulator, "spoil", how="html", status=502, calls=2, method="get_t*")
            assert await get("get_index_price_names")
            for _ in range(2):
                status, kind, body = await raw(simulator.rest_url)
                assert (status, kind) == (502, "text/html")
                assert body.startswith(b"<html>")
            assert (await raw(simulator.rest_url))[0] == 200
            await order(simulator, "spoil", how="truncated", host="history")
            assert (await raw(simulator.rest_url))[0] == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await raw(simulator.history_url)
            await order(simulator, "spoil", how="status", status=429)
            assert await raw(simulator.rest_url) == (429, "application/octet-stream", b"")
            await order(simulator, "spoil", how="status", status=503, calls=2, every=3, retry_after=7)
            assert [(await raw(simulator.rest_url))[0] for _ in range(7)] == [
                200,
                200,
                503,
                200,
                200,
                503,
                200,
            ]
            await order(simulator, "spoil", how="html", retry_after=7)
            async with http.get(f"{simulator.rest_url}/public/get_time") as response:
                assert response.headers["Retry-After"] == "7"
            await order(simulator, "fail", method="get_time", code=10047, message="x", every=2)
            assert await get("get_time")
            await get("get_time", status=400)
            await order(simulator, "spoil", how="timeout", seconds=0.05, calls=2)
            with pytest.raises(aiohttp.ServerDisconnectedError):  # the client tries twice on its own
                await raw(simulator.rest_url)
            assert await get("get_time")
            for code in (10028, 10047, 11051):
                await order(simulator, "fail", method="get_time", code=code, message="x")
                status = 503 if code == 11051 else 400
                assert (await get("get_time", status=status))["code"] == code

    run(scenario())


def test_a_spoiling_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InputError, match="it takes how"):
        read_order({"action": "spoil", "how": "burnt"})
