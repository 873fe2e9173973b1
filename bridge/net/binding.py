"""Binding the socket of a SIP listener, and what to do when that cannot be."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from bridge.errors import StartError


async def bound_socket(
    name: str, host: str, port: int, kind: socket.SocketKind, prepare: Callable[[socket.socket], None]
) -> socket.socket:
    """A non-blocking socket of this kind, `prepare`d before it is bound. StartError names what is in the way and the remedy."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV)
        family, _, _, _, address = found[0]
        return _bound(family, kind, address, prepare)
    except OSError as error:
        raise StartError(_remedy(name, host, port, kind, error)) from error


def _bound(
    family: int, kind: socket.SocketKind, address: tuple[object, ...], prepare: Callable[[socket.socket], None]
) -> socket.socket:
    bound = socket.socket(family, kind)
    try:
        bound.settimeout(0.0)
        prepare(bound)
        if family == socket.AF_INET6:
            # IPv4 has a listener of its own: `::ffff:192.0.2.1` in a Via would help nobody.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _remedy(name: str, host: str, port: int, kind: socket.SocketKind, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        shown = "ss -lunp" if kind is socket.SOCK_DGRAM else "ss -ltnp"
        what = f"the port is taken (`{shown} sport = :{port}` shows by whom): stop that, or listen on another port"
    elif error.errno == errno.EACCES:
        what = f"ports below 1024 are for root: take one above, or grant CAP_NET_BIND_SERVICE (asked for {port})"
    elif error.errno == errno.EADDRNOTAVAIL:
        what = f"no interface of this host has the address {host} (`ip address` lists them)"
    elif isinstance(error, socket.gaierror):
        what = f"{host} is no address of this host: {error.strerror}"
    else:
        what = str(error.strerror)
    return f"cannot listen on {name}: {what}; the key is sip.listen"
