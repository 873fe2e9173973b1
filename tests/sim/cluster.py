"""What stands between nodes: the links, which carry messages and questions, and each node's way to the store and back.

Leases, claims, routing and handing over are the service's own (`bridge.membership`, `bridge.switchboard`,
`bridge.draining`), on a loop in virtual time. A link loses nothing while both ends live and reach each other; what it
carries to one that does not answer is lost, and a question ends in PeerGone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from random import Random
from typing import Any, Protocol

from bridge.cluster import Envelope, Receiver
from bridge.errors import PeerGone, StoreUnavailable
from bridge.sip.flow import Flow, Send
from bridge.store.asking import TIMEOUT_S
from tests.sim.clock import VirtualClock
from tests.sim.loop import ProcessLoop
from tests.sim.network import Address, Network
from tests.sim.store import Link

CLUSTER_PORT = 7070


class Peer(Protocol):
    """A process, as other nodes reach it."""

    alive: bool
    address: Address
    loop: ProcessLoop

    @property
    def owner(self) -> str: ...
    @property
    def receiver(self) -> Receiver: ...
    def soon(self, call: Callable[[], None]) -> None: ...


class Links:
    """Between all processes of a world."""

    def __init__(self, clock: VirtualClock, chance: Random, network: Network) -> None:
        self.peers: dict[str, Peer] = {}  # by owner
        self._clock = clock
        self._chance = chance
        self._network = network

    def carry(self, source: Peer, owner: str, what: Callable[[Peer], None]) -> None:
        """Have it done at that process, if it is reached."""
        self._clock.later(self._chance.uniform(0.0005, 0.004), partial(self._arrive, source, owner, what))

    def _arrive(self, source: Peer, owner: str, what: Callable[[Peer], None]) -> None:
        peer = self.peers.get(owner)
        if peer is not None and peer.alive and self._network.reaches(source.address[0], peer.address[0]):
            peer.soon(partial(what, peer))


class Wires:
    """`bridge.cluster.peers.Cluster` as one process has it."""

    def __init__(self, own: Peer, links: Links) -> None:
        self._own = own
        self._links = links
        links.peers[own.owner] = own

    def send_envelope(
        self, owner: str, address: Address, flow: Flow, data: bytes, *, holder: str | None = None
    ) -> None:
        """A message for a conversation of `owner`'s."""
        envelope = Envelope(holder or self._own.owner, flow, data)
        self._links.carry(self._own, owner, lambda peer: peer.receiver.envelope(envelope))

    def send(self, owner: str, address: Address, flow: Flow, data: bytes) -> None:
        """A message that shall leave by a flow that `owner` holds."""
        self._links.carry(self._own, owner, lambda peer: peer.receiver.send(Send(flow, data)))

    async def ask(self, owner: str, address: Address, question: bytes, *, timeout_s: float) -> bytes:
        """What `owner` answers. PeerGone: nobody knows what became of the question."""
        own, links = self._own, self._links
        heard: asyncio.Future[bytes] = own.loop.create_future()

        def hear(answer: bytes) -> None:
            if not heard.done():
                heard.set_result(answer)

        async def answer(peer: Peer) -> None:
            said = await peer.receiver.answer(question)
            links.carry(peer, own.owner, lambda _: hear(said))

        links.carry(own, owner, lambda peer: _begun(peer.loop, answer(peer)))
        try:
            async with asyncio.timeout(timeout_s):
                return await heard
        except TimeoutError:
            raise PeerGone(f"{owner} has not answered") from None


def _begun(loop: ProcessLoop, work: Coroutine[Any, Any, None]) -> None:
    loop.create_task(work)


class Asked:
    """The store of one process, for whoever awaits its answer: a question takes its time, and its answer may be lost."""

    def __init__(self, link: Link, chance: Random) -> None:
        self._link = link
        self._chance = chance

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return partial(self._there_and_back, getattr(self._link, name))

    async def _there_and_back(self, question: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
        link, chance = self._link, self._chance
        there, back = chance.uniform(0.0, link.latency_s), chance.uniform(0.0, link.latency_s)
        await asyncio.sleep(there)
        answer = await question(*args, **named)
        connection = link.connection
        await asyncio.sleep(min(back, max(0.0, TIMEOUT_S - there)))
        if link.connection != connection or there + back > TIMEOUT_S:
            raise StoreUnavailable("the answer was lost")
        return answer
