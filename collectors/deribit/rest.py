"""Deribit's public REST methods: GET, bounded in rate, errors by type, the body kept as it came.

An error arrives as HTTP 400 with the JSON-RPC error object, too many connections as HTTP 429, an outage as
5xx or as a page of HTML from the network in front (venue's documentation and measurements).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode

import aiohttp
import msgspec

from collectors.backoff import Backoff
from collectors.deribit import wire
from collectors.deribit.rpc import TOO_MANY, Fault, error_from
from collectors.network import proxy_for, told
from collectors.pace import TokenBucket
from collectors.settings import CollectorSettings
from collectors.transport import USER_AGENT
from lake.errors import LakeError, TransientError, VenueRefusedError, VenueUnavailableError
from lake.events import Response
from lake.redaction import without_credentials

BODY_BYTES_MAX: Final = 192 << 20
"""The list of all options that ever expired has 100 MB."""
RETRY_AFTER_S: Final = 1.0


class TooManyError(VenueUnavailableError):
    """The venue asks us to slow down, and for how long at least."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class RestReply:
    """An answer. `body` is the response as received, `result` its `result` member, undecoded; `refusal` says why it
    has none where the venue refused for good."""

    url: str
    status: int
    requested_ns: int
    body: bytes
    result: msgspec.Raw
    refusal: VenueRefusedError | None = None

    def as_record(self) -> Response:
        """The answer as it goes into the spool."""
        return Response(
            url=without_credentials(self.url),
            status=self.status,
            requested_ns=self.requested_ns,
            body=msgspec.Raw(self.body),
        )


class _Body(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw()
    error: Fault | None = None


_BODY: Final = msgspec.json.Decoder(_Body)


class RestClient:
    """An async context manager; its connections, at most `connections`, are kept and reused.

    `pace` bounds the rate; without one it is that of the settings, fixed. `requests` counts what was sent.
    """

    def __init__(
        self, settings: CollectorSettings, *, pace: TokenBucket | None = None, connections: int = 2
    ) -> None:
        self._settings = settings
        self._base = settings.rest_url.rstrip("/")
        self._pace = pace or TokenBucket(settings.rest_per_s, settings.rest_burst)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._proxy: str | None = None
        self.requests = 0

    async def __aenter__(self) -> Self:
        """Raises SettingsError where the environment names a proxy that cannot be used."""
        self._proxy = proxy_for(self._base, self._settings.link.proxy)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, ssl=self._settings.link.ssl_context or True
            ),
            timeout=aiohttp.ClientTimeout(total=self._settings.rest_timeout_s),
            headers={"User-Agent": USER_AGENT},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, method: str, params: Mapping[str, str | int] | None = None) -> RestReply:
        """Call the public method `method` (such as "get_instruments"), again while the error is transient.

        Raises:
            VenueRefusedError: the venue refuses the call, or there is no such method at this address.
            VenueUnavailableError: every attempt failed; the error of the last one.
        """
        reply = await self.ask(method, params)
        if reply.refusal is not None:
            raise reply.refusal
        return reply

    async def ask(self, method: str, params: Mapping[str, str | int] | None = None) -> RestReply:
        """As `get`, but a refusal in the venue's own words is an answer like any other.

        Raises:
            VenueRefusedError: there is no such method at this address.
            VenueUnavailableError: every attempt failed; the error of the last one.
        """
        backoff = Backoff(self._settings.backoff)
        for _ in range(self._settings.rest_attempts - 1):
            try:
                return await self._once(method, params or {})
            except TooManyError as error:
                pause_s = max(error.retry_after_s, backoff.next_s())
                self._pace.refused(pause_s)
                await asyncio.sleep(pause_s)
            except TransientError:
                await asyncio.sleep(backoff.next_s())
        return await self._once(method, params or {})

    async def _once(self, method: str, params: Mapping[str, str | int]) -> RestReply:
        assert self._session is not None, "use the client as a context manager"
        await self._pace.wait()
        self.requests += 1
        url = f"{self._base}/public/{method}" + (f"?{urlencode(params)}" if params else "")
        requested_ns = time.time_ns()
        try:
            async with self._session.get(url, allow_redirects=False, proxy=self._proxy) as response:
                status = response.status
                retry_after_s = _retry_after(response.headers)
                body = await _read(response)
        except aiohttp.InvalidURL:
            raise VenueRefusedError(
                f"rest_url {self._base!r} is not an HTTP address; check rest_url"
            ) from None
        except TimeoutError:
            raise VenueUnavailableError(
                f"no answer from {told(url, self._proxy)} within {self._settings.rest_timeout_s:g} s"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            # The library's own words name the host once more.
            why = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            at = told(url, self._proxy)
            raise VenueUnavailableError(f"cannot get {at}: {why}; check rest_url and the network") from None
        content = _decode(body)
        if status == 200 and content is not None and content.error is None and bytes(content.result):
            return RestReply(url, status, requested_ns, body, content.result)
        failure = _failed(url, method, status, content, retry_after_s)
        if isinstance(failure, VenueRefusedError) and content is not None and content.error is not None:
            return RestReply(url, status, requested_ns, body, content.result, failure)
        raise failure


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise VenueUnavailableError(f"the answer of {response.url} exceeds {BODY_BYTES_MAX >> 20} MiB")
    return bytes(body)


def _decode(body: bytes) -> _Body | None:
    try:
        return _BODY.decode(body)
    except wire.DECODE_ERRORS:
        return None


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the other side asks us to wait, at least 1; a date in the header counts as not said."""
    try:
        return max(RETRY_AFTER_S, float(headers.get("Retry-After", RETRY_AFTER_S)))
    except ValueError:
        return RETRY_AFTER_S


def _failed(url: str, method: str, status: int, content: _Body | None, retry_after_s: float) -> LakeError:
    if status == 429:
        return TooManyError(
            f"{url}: too many requests or connections from this address (HTTP 429)", retry_after_s
        )
    if content is not None and content.error is not None:
        if content.error.code in TOO_MANY:
            return TooManyError(f"GET public/{method}: the venue cannot now: {content.error}", retry_after_s)
        return error_from(content.error, f"GET public/{method}")
    if status in (301, 302, 307, 308, 404, 405):
        return VenueRefusedError(f"no such method at {url} (HTTP {status}); check rest_url")
    return VenueUnavailableError(f"{url} gave no JSON-RPC answer (HTTP {status})")
