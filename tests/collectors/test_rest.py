"""The REST client: bodies as they came, errors by type, attempts and rate bounded."""

from __future__ import annotations

import json
import socket
from typing import Any

import msgspec
import pytest

from collectors.deribit.rest import RestClient, RestReply
from lake.errors import LakeError, SettingsError, VenueRefusedError, VenueUnavailableError
from lake.events import decode_response, encode_response
from tests.collectors.kit import run, settings
from tests.collectors.venue import Venue, serving

GOOD = b'{"jsonrpc":"2.0","result":[{"a":1.0e2 , "b":"\\u00e9"}],"usIn":1,"testnet":false}'


def error_body(code: int) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "error": {"code": code, "message": "no"}}).encode()


async def get(venue: Venue, **changes: Any) -> RestReply:
    async with RestClient(settings(venue.ws_url, venue.rest_url, **changes)) as client:
        return await client.get("get_instruments", {"currency": "BTC", "expired": "false"})


def test_the_body_is_kept_byte_for_byte_and_survives_the_spool() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.rest = [(200, GOOD)]
            reply = await get(venue)
            assert (reply.status, reply.body) == (200, GOOD)
            assert bytes(reply.result) == b'[{"a":1.0e2 , "b":"\\u00e9"}]'
            assert venue.rest_asked == ["/api/v2/public/get_instruments?currency=BTC&expired=false"]
            record = decode_response(encode_response(reply.as_record()))
            assert bytes(record.body) == GOOD
            assert record.url == f"{venue.rest_url}/public/get_instruments?currency=BTC&expired=false"
            assert record.requested_ns == reply.requested_ns

    run(scenario())


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, error_body(-32602), VenueRefusedError),
        (400, error_body(11050), VenueRefusedError),
        (404, b"not found", VenueRefusedError),
        (302, b"", VenueRefusedError),
    ],
)
def test_a_refusal_is_told_at_once(status: int, body: bytes, error: type[LakeError]) -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.rest = [(status, body)]
            with pytest.raises(error) as caught:
                await get(venue)
            assert "\n" not in str(caught.value)
            assert len(venue.rest_asked) == 1

    run(scenario())


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, b""),
        (503, b"<html>"),
        (403, b"<html>"),
        (400, error_body(10028)),
        (400, error_body(11051)),
        (200, b"<html>maintenance</html>"),
        (200, b'{"jsonrpc":"2.0"}'),
        (200, b'{"jsonrpc":"2.0","result":[{"a'),
        pytest.param(200, b'{"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="nested without end"),
    ],
)
def test_what_may_pass_is_tried_again_and_told_after_the_last_attempt(status: int, body: bytes) -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.rest = [(status, body), (status, body), (200, GOOD)]
            assert (await get(venue, rest_attempts=3)).body == GOOD
            venue.rest = [(status, body)]
            venue.rest_asked.clear()
            with pytest.raises(VenueUnavailableError):
                await get(venue, rest_attempts=3)
            assert len(venue.rest_asked) == 3

    run(scenario())


def test_nobody_listening_is_unavailable_and_names_the_setting() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        async def scenario() -> None:
            async with RestClient(settings(rest_url=url, rest_attempts=1)) as client:
                await client.get("get_time")

        with pytest.raises(VenueUnavailableError, match="rest_url"):
            run(scenario())


def test_an_address_that_is_none_is_refused() -> None:
    async def scenario() -> None:
        async with RestClient(settings(rest_url="http://127.0.0.1:99999/api", rest_attempts=1)) as client:
            await client.get("get_time")

    with pytest.raises(VenueRefusedError, match="rest_url"):
        run(scenario())
    with pytest.raises(SettingsError, match="rest_url 'not an address': give an address that begins with"):
        settings(rest_url="not an address")


def test_the_result_is_decoded_by_its_reader_only() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.rest = [(200, b'{"result":12345678901234567890}')]
            assert msgspec.json.decode((await get(venue)).result) == 12345678901234567890

    run(scenario())
