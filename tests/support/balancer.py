"""A load balancer that knows nothing of SIP: each datagram goes to the next node, whatever it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import cycle
from typing import cast

from tests.support.namespaces import LOOPBACK, Host
from tests.support.phone import Address


class _Back(asyncio.DatagramProtocol):
    """Towards the nodes, for one client; what they say to this socket goes to it."""

    def __init__(self, balancer: Balancer, client: Address) -> None:
        self._balancer = balancer
        self._client = client
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._balancer.send_back(data, self._client)


class Balancer(asyncio.DatagramProtocol):
    """Listens on a port of its own."""

    def __init__(self, nodes: Sequence[Address], host: Host = LOOPBACK) -> None:
        self._host = host.address
        self._nodes = cycle(nodes)
        self._front: asyncio.DatagramTransport | None = None
        self._backs: dict[Address, _Back] = {}
        self._early: dict[Address, list[bytes]] = {}  # until the socket for this client is there
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.passed = 0

    def lead_to(self, nodes: Sequence[Address]) -> None:
        """These from now on."""
        self._nodes = cycle(nodes)

    async def open(self) -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, (self._host, 0))
        self._front = transport
        self.port = transport.get_extra_info("sockname")[1]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for each in (self._front, *(back.transport for back in self._backs.values())):
            if each is not None:
                each.close()

    def datagram_received(self, data: bytes, addr: Address) -> None:
        back = self._backs.get(addr)
        if back is not None and back.transport is not None:
            self._pass(back.transport, data)
        elif addr in self._early:
            self._early[addr].append(data)
        else:
            self._early[addr] = [data]
            task = asyncio.create_task(self._begin(addr))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def send_back(self, data: bytes, client: Address) -> None:
        assert self._front is not None
        self._front.sendto(data, client)

    async def _begin(self, client: Address) -> None:
        loop = asyncio.get_running_loop()
        transport, back = await loop.create_datagram_endpoint(lambda: _Back(self, client), (self._host, 0))
        self._backs[client] = back
        for data in self._early.pop(client):
            self._pass(transport, data)

    def _pass(self, transport: asyncio.DatagramTransport, data: bytes) -> None:
        self.passed += 1
        transport.sendto(data, next(self._nodes))
