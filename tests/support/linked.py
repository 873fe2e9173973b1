"""Nodes of one cluster in one process: real engines, pumps and switchboards over one memory store, without sockets.

What is between them is a `Wire`, that can be cut. Each node has a caller, a media worker that obeys, and an application that
answers every call.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from bridge import __version__
from bridge.ambient import SystemTokens
from bridge.calls.call import Identity, Plan
from bridge.calls.facts import CallId, ConversationId
from bridge.calls.snapshot import READS
from bridge.cluster import Envelope
from bridge.cluster.peers import Cluster
from bridge.draining import Draining
from bridge.engine.effects import ClosePorts, HeldPorts, OpenPorts, Resolve, SetRule
from bridge.engine.inputs import Packet, PortsClosed, PortsOpened, Resolved, Woken
from bridge.engine.node import Node
from bridge.engine.registrations import Deregistered
from bridge.engine.settings import Application, Listener, NodeSettings
from bridge.errors import PeerGone
from bridge.fetching import Fetching
from bridge.handing import HandingOver
from bridge.membership import Membership
from bridge.nodes import Nodes
from bridge.outbox.effects import Delivery, Endpoint
from bridge.outbox.schedule import Outcome
from bridge.pump import Pump
from bridge.service import ContractRenderer
from bridge.sip.flow import Flow, Send
from bridge.store.keyspace import Keyspace
from bridge.store.memory import MemoryStore
from bridge.switchboard import Switchboard
from bridge.telemetry.metrics import Metrics
from bridge.trunks import Trunks
from tests.engine.world import Sealing
from tests.support.phone import Message, read_message
from tests.support.waiting import until

PHONE = Flow("udp", "udp:5060", "192.0.2.1", 5062)
SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time


class Wire:
    """Between the nodes. Whose owner is in `cut` is not reached; `asked` is what has been asked, in order."""

    def __init__(self) -> None:
        self.clock = Hands()
        self.keyspace = Keyspace(self.clock)
        self.nodes: dict[str, Linked] = {}
        self.cut: set[str] = set()
        self.asked: list[tuple[str, bytes]] = []
        self.envelopes: list[tuple[str, bytes]] = []

    async def add(self, owner: str, *, reads: tuple[int, ...] = READS, release: str = __version__) -> Linked:
        """A node that has announced itself. The others hear of it when they announce themselves again. `reads`: versions of
        stored calls."""
        node = self.nodes[owner] = Linked(owner, self, reads, release)
        await node.membership.announce()
        await node.membership.open()
        return node

    async def announce(self) -> None:
        """Everybody speaks, and hears of the others."""
        for _ in range(2):
            for node in self.nodes.values():
                await node.membership.announce()

    def events(self, call: CallId) -> list[tuple[str, dict[str, Any]]]:
        """Type and data of each event of a call, as stored."""
        read = [json.loads(body) for _, body in self.keyspace.events(call) or ()]
        return [(each["type"], each["data"]) for each in read]

    async def kill(self, node: Linked) -> None:
        """It dies, and its lease lapses while the others renew theirs."""
        node.pump.close()
        del self.nodes[node.owner]
        for _ in range(4):
            self.clock.time += 1.0
            await self.announce()

    async def close(self) -> None:
        for node in self.nodes.values():
            await node.draining.close()
            await node.fetching.close()
            await node.switchboard.close()
            node.pump.close()


class _Links:
    """The `Cluster` of one node."""

    def __init__(self, owner: str, wire: Wire) -> None:
        self._owner = owner
        self._wire = wire

    def send_envelope(
        self, owner: str, address: tuple[str, int], flow: Flow, data: bytes, *, holder: str | None = None
    ) -> None:
        self._wire.envelopes.append((owner, data))
        if owner not in self._wire.cut and owner in self._wire.nodes:
            self._wire.nodes[owner].switchboard.envelope(Envelope(holder or self._owner, flow, data))

    def send(self, owner: str, address: tuple[str, int], flow: Flow, data: bytes) -> None:
        if owner not in self._wire.cut and owner in self._wire.nodes:
            self._wire.nodes[owner].switchboard.send(Send(flow, data))

    async def ask(self, owner: str, address: tuple[str, int], question: bytes, *, timeout_s: float) -> bytes:
        self._wire.asked.append((owner, question))
        if owner in self._wire.cut or owner not in self._wire.nodes:
            raise PeerGone(f"{owner} is not reached")
        return await self._wire.nodes[owner].switchboard.answer(question)


class Linked:
    """One node."""

    def __init__(self, owner: str, wire: Wire, reads: tuple[int, ...] = READS, release: str = __version__) -> None:
        self.owner = owner
        self.wire = wire
        self.sent: list[Message] = []
        self.dropped: Counter[str] = Counter()
        self.ports: set[str] = set()
        self.taken: Counter[str] = Counter()  # events, by call
        self.answering = True
        self.taking = True  # of notifications; False: they stay under way
        self.untaken: list[Delivery] = []
        self.metrics = Metrics()
        self.replaced: list[str] = []
        self.pump = Pump(clock=wire.clock, metrics=self.metrics)
        self.store = MemoryStore(give=self.pump.store, clock=wire.clock, keyspace=wire.keyspace, reads=reads)
        node_id = owner.partition(":")[0]
        listener = Listener("udp:5060", node_id, Identity(f"<sip:{node_id}>", "bridge", "INVITE"))
        endpoint = Endpoint("desk", "http://app/calls", None, decision=True)
        settings = NodeSettings(
            owner=owner,
            node_id=node_id,
            nonce=f"nonce-{owner}",
            secret=b"s" * 32,
            listeners={"udp:5060": listener},
            applications=(Application("desk", Plan("desk", ()), (endpoint,)),),
            clustered=True,
            snapshots=reads,
        )
        seal = Sealing()
        node = Node(settings, render=ContractRenderer(), tokens=SystemTokens(), chance=lambda: 0.5, seal=seal)
        self.switchboard = Switchboard(
            owner=owner, pump=self.pump, store=self.store, clock=wire.clock, seal=seal, dropped=self._count
        )
        self.pump.connect(
            node,
            listeners={"udp:5060": self},
            store=self.store,
            media=self,
            webhooks=_Post(self),
            registrations=self,
            trunks=Trunks(pump=self.pump, store=self.store, trunks={}, seal=seal),
            names=self,
            nodes=self.switchboard,
        )
        self.membership = Membership(
            owner=owner,
            nonce=settings.nonce,
            pump=self.pump,
            store=self.store,
            clock=wire.clock,
            metrics=self.metrics,
            replaced=self.replaced.append,
            facts={"cluster": (node_id, 7070), "hint": node.hint, "release": release},
            heard=self.switchboard.heard,
            reads=reads,
        )
        self.unready = False
        self.handing = HandingOver(
            pump=self.pump, store=self.store, switchboard=self.switchboard, membership=self.membership
        )
        self.fetching = Fetching(
            pump=self.pump,
            store=self.store,
            switchboard=self.switchboard,
            membership=self.membership,
            handing=self.handing,
        )
        self.draining = Draining(
            pump=self.pump,
            membership=self.membership,
            switchboard=self.switchboard,
            handing=self.handing,
            began=self._drains,
            supervised=self._ended,
        )
        links = cast(Cluster, _Links(owner, wire))
        self.switchboard.connect(links, self.membership, self.fetching, self.draining.begin)
        self.nodes = Nodes(
            owner=owner, membership=self.membership, switchboard=self.switchboard, draining=self.draining
        )

    def _drains(self) -> None:
        self.unready = True

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.result()

    def _count(self, reason: str) -> None:
        self.dropped[reason] += 1

    # The adapters

    def send(self, send: Send) -> None:
        message = read_message(send.data)
        self.sent.append(message)
        if message.method == "INVITE":
            self._accept(message)

    def open_ports(self, wanted: OpenPorts) -> None:
        self.ports.add(wanted.session)
        asyncio.get_running_loop().call_soon(self.pump.give, PortsOpened(wanted.session, "192.0.2.10", 20000))

    def set_rule(self, wanted: SetRule) -> None: ...

    def close_ports(self, wanted: ClosePorts) -> None:
        self.ports.discard(wanted.session)
        asyncio.get_running_loop().call_soon(self.pump.give, PortsClosed(wanted.session, None))

    def reconcile(self, sessions: Mapping[str, HeldPorts]) -> None: ...

    def deregistered(self, said: Deregistered) -> None: ...

    def resolve(self, wanted: Resolve) -> None:
        asyncio.get_running_loop().call_soon(self.pump.give, Resolved(wanted.reader, ()))

    # The caller

    def _accept(self, invite: Message) -> None:
        """A re-INVITE: the phone is content."""
        lines = "".join(f"{name}: {invite[name.lower()]}\r\n" for name in ("Via", "From", "To", "Call-ID", "CSeq"))
        text = (
            f"SIP/2.0 200 OK\r\n{lines}Contact: <sip:a@192.0.2.1:5062>\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(SDP)}\r\n\r\n{SDP}"
        )
        asyncio.get_running_loop().call_soon(self.pump.packet, Packet(text.encode(), PHONE))

    def say(self, method: str, name: str, *, number: int = 1, to_tag: str = "") -> None:
        body = SDP if method == "INVITE" else ""
        typed = "Content-Type: application/sdp\r\n" if body else ""
        tag = f";tag={to_tag}" if to_tag else ""
        text = (
            f"{method} sip:100@bridge SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK{name}{method}{number}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:a@192.0.2.1>;tag={name}\r\nTo: <sip:100@bridge>{tag}\r\n"
            f"Call-ID: {name}\r\nCSeq: {number} {method}\r\nContact: <sip:a@192.0.2.1:5062>\r\n{typed}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self.pump.packet(Packet(text.encode(), PHONE))

    def said(self, name: str, status: int, method: str = "INVITE") -> list[Message]:
        return [
            each
            for each in self.sent
            if (each["call-id"], each.status) == (name, status) and each["cseq"].endswith(f" {method}")
        ]

    async def talking(self, name: str) -> tuple[CallId, str]:
        """A call that is up and written, and our tag in it."""
        known = {call.id for call in self.pump.node.calls()}
        self.say("INVITE", name)
        (ok,) = await until(lambda: self.said(name, 200), f"{name} is answered")
        self.say("ACK", name, to_tag=ok.tag("to"))
        call = next(call.id for call in self.pump.node.calls() if call.id not in known)
        await until(lambda: len(self.wire.keyspace.events(call) or ()) == 2, f"{name} is written")
        await until(lambda: self.taken[call] == 2, f"{name} is told of")
        await self.settle()
        return call, ok.tag("to")

    async def settle(self) -> None:
        """What has been delivered is written without another write to ride with."""
        self.wire.clock.time += 0.2
        await self.wire.announce()
        self.pump.give(Woken())

    def take_all(self) -> None:
        """What was under way is delivered."""
        self.taking = True
        for delivery in self.untaken:
            self.deliver(delivery, Outcome(200, None, None, 0.01))
        self.untaken.clear()

    def deliver(self, delivery: Delivery, outcome: Outcome) -> None:
        self.pump.delivered(delivery, outcome)
        self.taken[delivery.call] += 1

    def conversation(self, call: CallId) -> ConversationId:
        found = self.wire.keyspace.whereabouts(call)
        assert found is not None
        return found.conversation


class _Post:
    """The webhook sender: every event is taken, and every call answered."""

    def __init__(self, node: Linked) -> None:
        self._node = node

    def send(self, delivery: Delivery) -> None:
        if not (delivery.decision or self._node.taking):
            self._node.untaken.append(delivery)
            return
        body = b'{"actions": [{"action": "answer"}]}' if delivery.decision and self._node.answering else b""
        outcome = Outcome(200, None, None, 0.01, body=body, content_type="application/json")
        asyncio.get_running_loop().call_soon(self._node.deliver, delivery, outcome)
