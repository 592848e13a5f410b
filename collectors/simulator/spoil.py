"""REST answers that are no answers: what a proxy or a broken line makes of them."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from collectors.simulator.orders import Spoil

_PAGE: Final = "<html><head><title>{status}</title></head><body><h1>{status}</h1>cloudflare</body></html>"


async def spoil(request: web.Request, order: Spoil, body: bytes) -> web.StreamResponse:
    """Give `body` in the way the order says."""
    wait = {} if order.retry_after is None else {"Retry-After": str(order.retry_after)}
    if order.how == "html":
        page = _PAGE.format(status=order.status)
        return web.Response(status=order.status, text=page, content_type="text/html", headers=wait)
    if order.how == "status":
        return web.Response(status=order.status, headers=wait)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    if order.how == "timeout":
        await asyncio.sleep(order.seconds)
    else:
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()  # what was written leaves first
    return response
