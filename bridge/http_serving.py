"""HTTP sockets of the composition root: bound before anything is served, so that who cannot listen does not start."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiohttp import web

from bridge.api.app import make_runner
from bridge.config import Address
from bridge.errors import StartError

HTTP_PATIENCE_S = 5.0  # what a planned stop gives a request that is being answered


def bind_http(stack: AsyncExitStack, address: Address, key: str) -> list[socket.socket]:
    """Sockets that are ours from here on, and refuse connections until `serve_http`. StartError when they cannot be had."""
    bound = []
    try:
        for family, kind, _, _, where in socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            made = socket.socket(family, kind)
            stack.callback(made.close)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(where)
            bound.append(made)
    except OSError as error:
        raise _cannot_listen(address, key, error) from error
    return bound


async def serve_http(
    stack: AsyncExitStack, app: web.Application, sockets: Sequence[socket.socket], address: Address, key: str
) -> None:
    runner = make_runner(app, shutdown_timeout=HTTP_PATIENCE_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        for bound in sockets:
            await web.SockSite(runner, bound).start()
    except OSError as error:
        raise _cannot_listen(address, key, error) from error


def _cannot_listen(address: Address, key: str, error: OSError) -> StartError:
    return StartError(f"cannot listen on {address} for HTTP: {error.strerror}; the key is {key}")
