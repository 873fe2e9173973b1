"""Nodes of a cluster in one process, on real sockets; and what can stand between two of them."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from bridge.cluster import Envelope, frames
from bridge.cluster.frames import Cutting, Seal, unproven_frame
from bridge.cluster.handshake import Dialing, Keys, Proven, Refused, Say
from bridge.cluster.link import ClusterLimits
from bridge.cluster.peers import Cluster
from bridge.sip.flow import Flow, Send

SECRET = b"the secret of the cluster"
FLOW = Flow("udp", "udp:0.0.0.0:5060", "192.0.2.1", 5060)
SOON = 0.05  # a limit that a test waits for

Address = tuple[str, int]


class Membership(set[str]):
    """Who is leased."""

    def is_leased(self, owner: str) -> bool:
        return owner in self


class Node:
    """One node, and all that it has been given. It answers what `answers` says, by default the question."""

    def __init__(
        self,
        owner: str,
        members: Membership,
        *,
        secret: bytes = SECRET,
        address: Address = ("127.0.0.1", 0),
        **limits: Any,
    ) -> None:
        self.owner = owner
        self.envelopes: list[Envelope] = []
        self.sends: list[Send] = []
        self.dropped: Counter[str] = Counter()
        self.answers: Callable[[bytes], Awaitable[bytes]] = self._echo
        self.questions: list[bytes] = []
        self.cluster = Cluster(
            owner=owner,
            secret=secret,
            listen=address,
            members=members,
            receiver=self,
            dropped=self._count,
            limits=ClusterLimits(**limits),
        )
        members.add(owner)

    @property
    def address(self) -> Address:
        return self.cluster.address

    def tell(self, other: Node, data: bytes, *, address: Address | None = None) -> None:
        self.cluster.send_envelope(other.owner, address or other.address, FLOW, data)

    async def ask(
        self, other: Node, question: bytes, *, address: Address | None = None, timeout_s: float = 30
    ) -> bytes:
        return await self.cluster.ask(other.owner, address or other.address, question, timeout_s=timeout_s)

    @property
    def heard(self) -> list[bytes]:
        return [each.data for each in self.envelopes]

    # What its cluster calls

    def envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    def send(self, send: Send) -> None:
        self.sends.append(send)

    async def answer(self, question: bytes) -> bytes:
        self.questions.append(question)
        return await self.answers(question)

    async def _echo(self, question: bytes) -> bytes:
        return question

    def _count(self, reason: str) -> None:
        self.dropped[reason] += 1


class Between:
    """A wire between two nodes that can be listened to, touched, blocked and cut. Whoever connects to it reaches `target`."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.recorded: list[bytes] = []  # what dialers have said, one element for each connection
        self.connections = 0
        self.touch: Callable[[bytes], bytes] = lambda data: data
        self.blocked = False  # nothing passes, and nothing is read
        self._server: asyncio.Server
        self._open: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self._listening.setblocking(False)
        self.address: Address = self._listening.getsockname()
        self._spawn(self._accept())

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(self._listening)
            near.setblocking(False)
            far = socket.socket()
            far.setblocking(False)
            await loop.sock_connect(far, self.target)
            self._open += [near, far]
            number = self.connections
            self.connections += 1
            self.recorded.append(b"")
            self._spawn(self._carry(near, far, number))
            self._spawn(self._carry(far, near, None))

    async def _carry(self, source: socket.socket, sink: socket.socket, number: int | None) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                while self.blocked:
                    await asyncio.sleep(0.01)
                data = await loop.sock_recv(source, 65_536)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if number is not None:
                    self.recorded[number] += data
                    data = self.touch(data)
                await loop.sock_sendall(sink, data)

    def cut(self) -> None:
        """Both ends are reset, as by a kernel whose process was killed."""
        for each in self._open:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        tasks, self._open = self._open, []
        for each in list(self._tasks):
            if "_carry" in repr(each.get_coro()):
                each.cancel()
        for each in tasks:
            each.close()

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.close()
        for each in self._open:
            each.close()


class Stranger:
    """Somebody who connects by hand, and who may know the secret."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self.cutting = Cutting()
        self.seal: Seal

    @classmethod
    async def dial(cls, address: Address) -> Stranger:
        made = socket.socket()
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
        return cls(made)

    @classmethod
    async def proven(cls, node: Node, owner: str, *, nonce: bytes = b"n" * 32) -> Stranger:
        """One that speaks as `owner`, which knows the secret."""
        made = await cls.dial(node.address)
        side = Dialing(Keys(SECRET), owner=owner, wanted=node.owner, nonce=nonce)
        outcomes = side.begin()
        while True:
            for outcome in outcomes:
                match outcome:
                    case Say(payload):
                        await made.say(unproven_frame(payload))
                    case Proven(_, _, sending, receiving):
                        made.seal = Seal(sending)
                        made.cutting.demand_proof(Seal(receiving))
                        return made
                    case Refused(reason):
                        raise AssertionError(reason)
            outcomes = side.step(await made.hear_frame())

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def say_frames(self, *payloads: bytes) -> None:
        await self.say(self.seal.frames(payloads))

    async def hear(self) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self.socket, 65_536)
        except ConnectionResetError:
            return b""

    async def hear_frame(self) -> bytes:
        while (payload := self.cutting.take()) is None:
            data = await self.hear()
            assert data, "closed"
            self.cutting.feed(data)
        assert isinstance(payload, bytes)
        return payload

    async def is_closed(self) -> bool:
        while await self.hear():
            pass
        return True

    def close(self) -> None:
        self.socket.close()


def envelope(data: bytes) -> bytes:
    return frames.envelope("a:1", FLOW, data)
