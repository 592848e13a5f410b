"""JSON-RPC: which frames are control frames, which reply belongs to which call, what an error means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from collectors.deribit.rpc import Calls, Fault, decode_control, decode_names, error_from, is_notification
from lake.errors import VenueRefusedError, VenueUnavailableError
from tests.collectors.kit import run

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("subscription"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(params=json_values, order=st.permutations(["jsonrpc", "method", "params"]), spaced=st.booleans())
def test_a_notification_is_never_taken_for_a_control_frame(
    params: object, order: list[str], spaced: bool
) -> None:
    members = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "x", "data": params}}
    separators = (", ", ": ") if spaced else (",", ":")
    frame = json.dumps({key: members[key] for key in order}, separators=separators).encode()
    assert is_notification(frame) or decode_control(frame) is None
    assert spaced or is_notification(frame)


@given(
    result=json_values,
    request_id=st.integers() | st.text(),
    order=st.permutations(["jsonrpc", "id", "result", "usIn", "usOut", "testnet"]),
)
def test_a_reply_is_never_taken_for_a_notification(
    result: object, request_id: int | str, order: list[str]
) -> None:
    values = {"jsonrpc": "2.0", "id": request_id, "result": result, "usIn": 1, "usOut": 2, "testnet": True}
    members = {key: values[key] for key in order}
    if isinstance(result, dict) and result.get("method") == "subscription":
        return
    assert not is_notification(json.dumps(members, separators=(",", ":")).encode())


def test_a_quoted_notification_inside_a_reply_is_no_notification() -> None:
    text = '{"method":"subscription"}'
    frame = json.dumps({"id": 1, "error": {"code": -32700, "message": text}}, separators=(",", ":")).encode()
    assert not is_notification(frame)
    control = decode_control(frame)
    assert control is not None
    assert control.error == Fault(-32700, text)


@pytest.mark.parametrize(
    ("frame", "asks"),
    [
        (b'{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}', True),
        (b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}', True),
        (b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}', False),
        (b'{"jsonrpc":"2.0","id":2,"result":{"version":"1.2.26"},"testnet":false}', False),
        (b'{"jsonrpc":"2.0","method":"heartbeat"}', False),
    ],
)
def test_a_test_request_is_recognised_in_any_order_of_keys(frame: bytes, asks: bool) -> None:
    assert not is_notification(frame)
    control = decode_control(frame)
    assert control is not None
    assert control.is_test_request is asks


DEEP = b"[" * 100_000 + b"]" * 100_000
GARBAGE = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{",
    b'{"id":[1]}',
    b'{"error":"x"}',
    b'{"id":1,"result":' + DEEP + b"}",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_no_control_frame(garbage: bytes) -> None:
    assert not is_notification(garbage)
    assert decode_control(garbage) is None


def settle(calls: Calls, text: bytes) -> bool:
    control = decode_control(text)
    assert control is not None
    return calls.settle(control)


def test_replies_find_their_calls_in_any_order_and_with_ids_turned_to_text() -> None:
    async def scenario() -> None:
        calls = Calls()
        opened = [calls.open("public/test", {"n": number}) for number in range(3)]
        for request_id, text, _ in opened:
            request = json.loads(text)
            assert (request["id"], request["jsonrpc"]) == (request_id, "2.0")
        assert settle(calls, b'{"id":%d,"result":"third"}' % opened[2][0])
        assert settle(calls, b'{"id":"%d","result":"first"}' % opened[0][0])
        assert not settle(calls, b'{"id":%d,"result":"again"}' % opened[0][0])
        assert not settle(calls, b'{"id":"someone else","result":1}')
        assert not settle(calls, b'{"id":12345,"result":1}')
        assert [future.done() for _, _, future in opened] == [True, False, True]
        assert msgspec.json.decode((await opened[0][2]).result) == "first"
        assert msgspec.json.decode((await opened[2][2]).result) == "third"
        assert len(calls) == 1

    run(scenario())


def test_an_error_without_id_answers_the_longest_request() -> None:
    async def scenario() -> None:
        calls = Calls()
        _, _, short = calls.open("public/test", {})
        _, _, long = calls.open("public/subscribe", {"channels": ["x" * 100]})
        assert settle(calls, b'{"error":{"code":-32600,"message":"request entity too large"},"usIn":1}')
        assert (await long).error == Fault(-32600, "request entity too large")
        assert not short.done()

    run(scenario())


def test_a_lost_connection_ends_every_wait_and_a_late_reply_is_harmless() -> None:
    async def scenario() -> None:
        calls = Calls()
        request_id, _, future = calls.open("public/test", {})
        calls.fail_all(VenueUnavailableError("lost"))
        with pytest.raises(VenueUnavailableError):
            await future
        assert not settle(calls, b'{"id":%d,"result":1}' % request_id)
        request_id, _, abandoned = calls.open("public/test", {})
        abandoned.cancel()
        await asyncio.sleep(0)
        assert settle(calls, b'{"id":%d,"result":1}' % request_id)
        assert len(calls) == 0

    run(scenario())


@pytest.mark.parametrize(
    "code", [10028, 10040, 10041, 10047, 10066, 11051, 11056, 11094, 13028, 13888, 424242]
)
def test_what_may_pass_is_transient(code: int) -> None:
    assert isinstance(error_from(Fault(code, "busy"), "asking"), VenueUnavailableError)


@pytest.mark.parametrize("code", [-32602, -32601, -32600, 11050, 13009, 13778])
def test_what_repetition_cannot_cure_is_terminal(code: int) -> None:
    assert isinstance(error_from(Fault(code, "no"), "asking"), VenueRefusedError)


def test_an_error_says_what_was_asked_and_the_parameter_at_fault() -> None:
    fault = Fault(-32602, "Invalid params", {"reason": "value must be >= 10", "param": "interval"})
    assert str(error_from(fault, "set_heartbeat(5)")) == (
        "set_heartbeat(5): the venue refuses: Invalid params -32602 (value must be >= 10, interval)"
    )


def test_an_acknowledgement_that_is_no_list_of_names_is_refused() -> None:
    assert decode_names(msgspec.Raw(b'["a","b"]')) == ["a", "b"]
    for wrong in (b'"ok"', b"[1]", b"{}", b'["\xff"]'):
        with pytest.raises(VenueUnavailableError):
            decode_names(msgspec.Raw(wrong))


def recorded_frames(folder: Path) -> Iterator[bytes]:
    """Frames of the recordings: bare lines, lines in a wrapper, and text between receive times.

    One file is left out: its messages were indented by those who kept them.
    """
    for path in sorted((folder / "ws").glob("deribit_2*.jsonl")):
        for line in path.read_bytes().splitlines():
            wrapper = _WRAPPER.decode(line)
            yield bytes(wrapper.message) or line
    for path in sorted((folder / "ws").glob("*.txt.zst")):
        with path.open("rb") as packed:
            text = zstandard.ZstdDecompressor().stream_reader(packed).read()
        for line in text.splitlines():
            start = line.find(b"{")
            if start >= 0:
                yield line[start:]


class _Wrapper(msgspec.Struct):
    message: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="_msg")


_WRAPPER = msgspec.json.Decoder(_Wrapper)


def test_recorded_frames_are_told_apart_by_the_cheap_test_exactly_as_by_decoding(real_data: Path) -> None:
    notifications = controls = 0
    for frame in recorded_frames(real_data):
        content = msgspec.json.decode(frame)
        if content.get("method") == "subscription":
            assert is_notification(frame), frame[:300]
            notifications += 1
        else:
            assert not is_notification(frame), frame[:300]
            controls += 1
    assert notifications > 600
    assert controls > 10
