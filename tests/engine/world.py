"""A node on a bench: a caller, a store, a media worker and an application that do what the test says, on a clock that is a
number. The store is the keyspace that the Redis scripts have for a twin; what outlives a node is shared with its heir.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

from bridge.calls.actions import Action, Answer, Reject
from bridge.calls.call import Call, Identity, Plan
from bridge.calls.events import Event
from bridge.calls.facts import ActionId, CallId, EventId, Quality
from bridge.calls.referral import TransferDecision
from bridge.contract.events import ANY_EVENT
from bridge.contract.registered import render_registration
from bridge.contract.registrations import ANY_REGISTRATION_EVENT
from bridge.contract.render import call_json, render_event
from bridge.engine.commit import Commit, Release, Remembered
from bridge.engine.effects import (
    Acknowledge,
    AdoptPorts,
    ClosePorts,
    CommandAccepted,
    CommandRefused,
    Deliver,
    Effect,
    OpenPorts,
    Postpone,
    SetRule,
)
from bridge.engine.inputs import (
    Claimed,
    Command,
    CommitRefused,
    Committed,
    Delivered,
    Input,
    InvalidReply,
    MediaLost,
    NoPortLeft,
    Packet,
    PortsClosed,
    PortsOpened,
    Woken,
)
from bridge.engine.node import Node
from bridge.engine.registrations import (
    BindingsRead,
    ForgetEvents,
    ReadBindings,
    RegistrationDecision,
    RegistrationEvent,
    RegistrationWritten,
    StreamsClaimed,
    WriteRegistration,
    aor_of,
    read_bindings,
    stream_of,
)
from bridge.engine.settings import Application, Listener, NodeSettings
from bridge.outbox.effects import Delivery, Endpoint
from bridge.outbox.schedule import Outcome
from bridge.rtp.rules import Rule
from bridge.sip.flow import Flow, Send
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.refer import SIPFRAG
from bridge.sip.registrar import AddressOfRecord
from bridge.sip.transaction import server_key
from bridge.store.keyspace import Keyspace

CALLER = Flow("udp", "udp:5060", "192.0.2.1", 5062)
IDENTITY = Identity(
    "<sip:192.0.2.10:5060>", "bridge", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY, REFER, REGISTER"
)
HOOK = Endpoint("front-desk.0", "http://app/calls", None, decision=True)
ANSWER = Answer()
OK = Outcome(200, None, None, 0.01)
DOWN = Outcome(None, "refused", None, 0.0, detail="connection refused")
TIMEOUT = Outcome(None, "timeout", None, 10.0)
QUALITY = Quality(packets_received=7)
RETENTION_S = 86_400.0

Write: TypeAlias = Commit | Acknowledge | Postpone | Release | WriteRegistration | ForgetEvents | ReadBindings


def sdp(port: int = 4000, *, direction: str = "sendrecv", formats: str = "0 8 101", address: str = "192.0.2.1") -> str:
    """The caller's session description."""
    return (
        f"v=0\r\no=caller 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {formats}\r\na=rtpmap:101 telephone-event/8000\r\na={direction}\r\n"
    )


OFFER = sdp()
UNUSABLE = sdp(formats="18 3")  # G.729 and GSM


def settings(
    *, endpoints: Sequence[Endpoint] = (HOOK,), plan: dict[str, Any] | None = None, **changes: Any
) -> NodeSettings:
    """One node, one application; `plan` and `changes` say what shall be different."""
    application = Application(
        "front-desk", Plan("front-desk", **({"fallback": (Reject(),)} | (plan or {}))), tuple(endpoints)
    )
    base = NodeSettings(
        owner="n1:1",
        node_id="n1",
        nonce="nonce1",
        secret=b"s" * 32,
        listeners={"udp:5060": Listener("udp:5060", "192.0.2.10:5060", IDENTITY)},
        applications=(application,),
    )
    return replace(base, **changes)


class Ticking:
    """A clock that the test moves."""

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at


class Counting:
    """Tokens that can be foretold."""

    def __init__(self, start: int = 0) -> None:
        self.made = start

    def token(self, length: int) -> str:
        self.made += 1
        return f"{self.made:x}".rjust(length, "a").translate(str.maketrans("0189", "ghij"))


class Sealing:
    """A `Seal` whose sealed texts tell nobody anything at a glance. `key`: what another one must have to unseal them."""

    def __init__(self, key: str = "k") -> None:
        self.key = key
        self.made = 0

    def seal(self, secret: str) -> str:
        self.made += 1
        return f"{self.key}.{self.made}.{secret.encode().hex()}"

    def unseal(self, sealed: str) -> str | None:
        key, _, text = sealed.split(".")
        return bytes.fromhex(text).decode() if key == self.key else None


class Rendering:
    """The engine's `Renderer`, as the service has it."""

    def event(self, event_id: EventId, event: Event, call: Call, *, caused_by: ActionId | None, now: float) -> bytes:
        return render_event(
            event_id,
            event,
            call,
            sequence=call.sequence,
            conversation=call.conversation_id,
            application=call.application,
            caused_by=caused_by,
            now=now,
        )

    def registration(
        self,
        event_id: EventId,
        event: RegistrationEvent,
        aor: AddressOfRecord,
        application: str,
        sequence: int,
        *,
        now: float,
    ) -> bytes:
        return render_registration(event_id, event, aor, application, sequence, now=now)

    def record(self, call: Call) -> bytes:
        return call_json(call)


class Party(Protocol):
    """Somebody else on the network."""

    def take(self, message: Request | Response, flow: Flow) -> Iterable[Input]:
        """What is sent there, and what comes back at once."""
        ...


class World:
    """Everything around one node. Each part answers at once while its switch is on; else what is asked of it waits."""

    generation: int
    clock: Ticking
    keyspace: Keyspace

    def __init__(
        self, config: NodeSettings | None = None, *, dead: World | None = None, seal: Sealing | None = None
    ) -> None:
        """`dead`: the node whose work this one takes up, with all that has outlived it."""
        self.settings = config or settings()
        self.generation = dead.generation + 1 if dead else 1
        tokens = Counting(self.generation * 1_000_000)
        self.seal = seal or (dead.seal if dead else Sealing())
        self.node = Node(self.settings, render=Rendering(), tokens=tokens, chance=lambda: 0.5, seal=self.seal)
        self.clock = dead.clock if dead else Ticking(1000.0)
        self.effects: list[Effect] = []
        self.strict = True  # False: the caller sends nonsense, and each piece of it has its own answer
        self.illegible: list[bytes] = []  # what we sent and nobody can read: an echo of nonsense, at best
        self.answers: dict[tuple[str | None, int], int] = {}  # our final response to each INVITE
        # the store
        self.committing = True
        self.keyspace = dead.keyspace if dead else Keyspace(self.clock)
        self.waiting: deque[Write] = deque()
        self.commits: list[Commit] = []
        # the media worker
        self.opening = self.closing = self.ports_left = True
        self.unopened: deque[str] = deque()
        self.ports: dict[str, Rule | None] = dead.ports if dead else {}
        self.media = "192.0.2.10", 20000  # where the ports are that it opens
        # the application
        self.reply: Sequence[Action | RegistrationDecision | TransferDecision] | InvalidReply | None = (
            dead.reply if dead else None
        )  # None: it thinks about it
        self.accepting = True  # of notifications; False: they stay under way
        self.down = False  # nobody listens
        self.flying: dict[int, tuple[float, Delivery]] = {}  # attempts under way, and when they time out
        self.attempts: list[Delivery] = []
        self.bodies: list[dict[str, Any]] = dead.bodies if dead else []  # received, each event once
        self.received: list[tuple[str, str, int]] = (
            dead.received if dead else []
        )  # endpoint, call, sequence; repeated too
        # what has been written: nothing that depends on it may be seen before
        self.written: set[tuple[str, int]] = dead.written if dead else set()  # events
        self.accepted: set[CallId] = dead.accepted if dead else set()  # calls whose 200 may be seen
        # those who are called, by address: what is sent there does not reach the caller
        self.parties: dict[tuple[str, int], Party] = dead.parties if dead else {}
        # the caller
        self.sent: list[tuple[float, Request | Response]] = dead.sent if dead else []  # to it, by us

    @property
    def now(self) -> float:
        return self.clock.at

    def give(self, *given: Input) -> list[Effect]:
        """Give one input, or those of one turn, and answer everything they ask of the world, until nothing is left.

        What is answered at once belongs to the turn; what has changed is written when nothing more is to be given.
        """
        inputs = deque(given)
        caused: list[Effect] = []
        while inputs or self.node.unwritten:
            for effect in self.node.take(inputs.popleft(), now=self.now) if inputs else self.node.write():
                caused.append(effect)
                inputs.extend(self._answer(effect))
        self.effects += caused
        return caused

    def _answer(self, effect: Effect) -> Iterator[Input]:
        match effect:
            case Send(flow, data):
                message = parse(data)
                party = self.parties.get((flow.host, flow.port))
                if party is not None and isinstance(message, Request | Response):
                    yield from party.take(message, flow)
                elif isinstance(message, Request | Response):
                    if self.strict:
                        self._check_sent(message)
                    self.sent.append((self.now, message))
                else:
                    self.illegible.append(data)
            case (
                Commit()
                | Acknowledge()
                | Postpone()
                | Release()
                | WriteRegistration()
                | ForgetEvents()
                | ReadBindings()
            ):
                if isinstance(effect, Commit):
                    self.commits.append(effect)
                self.waiting.append(effect)
                if self.committing:
                    yield from self._write()
            case OpenPorts(session):
                if self.opening:
                    yield self._open(session)
                else:
                    self.unopened.append(session)
            case SetRule(session, rule):
                assert session in self.ports, "a rule for ports that are not open"
                self.ports[session] = rule
            case ClosePorts(session):
                quality = QUALITY if session in self.ports else None
                self.ports.pop(session, None)
                if self.closing:
                    yield PortsClosed(session, quality)
            case AdoptPorts(sessions):
                lost = tuple(session for session in sessions if session not in self.ports)
                for orphan in self.ports.keys() - sessions.keys():
                    del self.ports[orphan]
                self.ports |= {
                    name: held.rule or self.ports[name] for name, held in sessions.items() if name not in lost
                }
                if lost:
                    yield MediaLost(lost)
            case Deliver(delivery):
                assert (delivery.call, delivery.sequence) in self.written, "an event that is not stored"
                self.attempts.append(delivery)
                self.flying[delivery.delivery] = (self.now + delivery.timeout_s, delivery)
                if self.down:
                    yield self._landed(delivery, DOWN)
                elif self.reply is not None if delivery.decision else self.accepting:
                    yield self._landed(delivery, OK, self.reply if delivery.decision else None)

    def _check_sent(self, message: Request | Response) -> None:
        """A call is accepted when that is stored, and an INVITE is answered once, however often that is repeated."""
        if not isinstance(message, Response) or message.cseq.method != "INVITE" or message.status < 200:
            return
        if message.status < 300:
            ours = self.node._holdings.names.call_of_tag(message.to_tag)
            if ours is None:
                return  # somebody else's, that we have passed on: of a fork there may be several, late ones too
            assert ours in self.accepted, "a 200 that is not stored"
        said = self.answers.setdefault(_transaction(message), message.status)
        assert said == message.status, f"{message.status} after {said}"

    # The store

    def _write(self) -> Iterator[Input]:
        while self.waiting:
            yield from self._apply(self.waiting.popleft())

    def _apply(self, write: Write) -> Iterator[Input]:
        match write:
            case Commit():
                answer = self.keyspace.commit(write, RETENTION_S)
                if answer == "applied":
                    self.written.update((event.call, event.sequence) for event in write.events)
                    self.accepted.update(
                        call.call for call in write.calls if b'"phase":"accepted"' in (call.variable or b"")
                    )
                if isinstance(answer, Remembered):
                    yield CommitRefused(write.ticket, "claimed", answer)
                else:
                    yield Committed(write.ticket) if answer == "applied" else CommitRefused(write.ticket, answer)
            case Acknowledge(acks):
                for ack in acks:
                    self.keyspace.acknowledge(ack)
            case Postpone(postponed):
                self.keyspace.postpone(postponed)
            case Release():
                self.keyspace.release(write, RETENTION_S)
            case WriteRegistration():
                told = self.keyspace.register(write)
                if isinstance(told, RegistrationWritten):
                    self.written.update((stream_of(write.aor), sequence) for sequence, _ in write.events)
                yield told
            case ForgetEvents():
                self.keyspace.forget_events(write)
            case ReadBindings(reader, aor):
                found = self.keyspace.registration(AddressOfRecord(aor))
                yield BindingsRead(reader, aor, read_bindings(found or b""))

    def commit_one(self) -> None:
        """The store gets around to the oldest write."""
        for given in self._apply(self.waiting.popleft()):
            self.give(given)

    def commit_all(self) -> None:
        """The store is quick again."""
        self.committing = True
        while self.waiting:
            self.commit_one()

    def stored_events(self, call: CallId | None = None) -> list[tuple[int, dict[str, Any]]]:
        """(sequence, body) of every event of a call that the store knows."""
        found = self.keyspace.events(call or self.call_id) or []
        return [(sequence, json.loads(body)) for sequence, body in found]

    def stored_calls(self) -> list[CallId]:
        return [call for _, call, _ in self.keyspace.list_calls(None, 10_000)]

    def restart(self, *, applied: int = 0, seal: Sealing | None = None, **changes: Any) -> World:
        """The process dies, and another takes its place that knows what the store knows.

        `applied`: so many of the writes under way reached the store, though nobody heard of it. `seal`: it has another one.
        """
        for _ in range(min(applied, len(self.waiting))):
            list(self._apply(self.waiting.popleft()))
        generation = self.generation + 1
        config = replace(
            self.settings, owner=f"{self.settings.node_id}:{generation}", nonce=f"nonce{generation}", **changes
        )
        heir = World(config, dead=self, seal=seal)
        heir.commits = self.commits[:1]
        heir.give(Claimed(tuple(self.keyspace.claim_predecessors(config.owner, config.nonce))))
        heir.give(StreamsClaimed(tuple(self.keyspace.claim_streams(config.owner, config.node_id))))
        return heir

    # The media worker

    def _open(self, session: str) -> Input:
        if not self.ports_left:
            return NoPortLeft(session)
        self.ports.setdefault(session, None)
        address, port = self.media
        return PortsOpened(session, address, port + 100 if session.endswith("/video") else port)

    def open_ports(self) -> None:
        """The worker gets around to what it was asked for."""
        self.opening = True
        while self.unopened:
            self.give(self._open(self.unopened.popleft()))

    # The application

    def _landed(
        self,
        delivery: Delivery,
        outcome: Outcome,
        reply: Sequence[Action | RegistrationDecision | TransferDecision] | InvalidReply | None = None,
    ) -> Delivered:
        del self.flying[delivery.delivery]
        if outcome.delivered:
            body = json.loads(delivery.body)
            self.received.append((delivery.endpoint, delivery.call, delivery.sequence))
            if all(body["id"] != known["id"] for known in self.bodies):
                known = ANY_EVENT if aor_of(delivery.call) is None else ANY_REGISTRATION_EVENT
                known.validate_json(delivery.body)
                self.bodies.append(body)
        return Delivered(delivery.delivery, outcome, reply)

    def outcome(self, outcome: Outcome = OK, reply: Sequence[Action] | InvalidReply | None = None) -> None:
        """The oldest attempt under way ends so."""
        _, delivery = next(iter(self.flying.values()))
        self.give(self._landed(delivery, outcome, reply))

    def decide(self, *actions: Action | RegistrationDecision | TransferDecision) -> None:
        """The application makes up its mind."""
        delivery = next(delivery for _, delivery in self.flying.values() if delivery.decision)
        self.give(self._landed(delivery, OK, actions))

    def command(
        self, *actions: Action, listed: bool = False, call: CallId | None = None
    ) -> CommandAccepted | CommandRefused:
        """A REST request, and its answer."""
        caused = self.give(Command(1, call or self.call_id, actions, listed))
        (answer,) = [effect for effect in caused if isinstance(effect, CommandAccepted | CommandRefused)]
        return answer

    def ask(self, *actions: Action, listed: bool = False) -> tuple[ActionId, ...]:
        """A REST request that is granted: how its actions are named."""
        answer = self.command(*actions, listed=listed)
        assert isinstance(answer, CommandAccepted), answer
        return answer.action_ids

    # Time

    def advance(self, seconds: float) -> None:
        """Let time pass, waking the node whenever it wants to be and ending what takes too long."""
        end = self.now + seconds
        while True:
            timeout, delivery = min(self.flying.values(), key=lambda flight: flight[0], default=(end + 1, None))
            wake = self.node.deadline()
            at = timeout if wake is None else min(timeout, wake)
            if at > end:
                break
            self.clock.at = max(at, self.now)
            if delivery is not None and timeout == at:
                self.give(self._landed(delivery, TIMEOUT))
            else:
                self.give(Woken())
        self.clock.at = end

    # The caller

    def packet(self, data: str | bytes, flow: Flow = CALLER) -> list[Effect]:
        data = data if isinstance(data, bytes) else data.encode()
        message = parse(data)
        if isinstance(message, Request) and self.node._holdings.endpoint.state(server_key(message)) is None:
            self.answers.pop(_transaction(message), None)  # the transaction is over: this is another one
        return self.give(Packet(data, flow))

    def invite(self, name: str = "c1", **written: Any) -> None:
        self.packet(request("INVITE", name, **({"sdp": OFFER} | written)))

    def cancel(self, name: str = "c1", **written: Any) -> None:
        self.packet(request("CANCEL", name, **written))

    def within(self, method: str, name: str = "c1", *, sequence: int = 2, **written: Any) -> None:
        """A request of the caller within the dialog that our responses to its INVITE made."""
        self.packet(request(method, name, sequence=sequence, **({"to_tag": self.tag(name)} | written)))

    def ack(self, name: str = "c1", *, sequence: int = 1, sdp: str | None = None) -> None:
        self.within("ACK", name, sequence=sequence, sdp=sdp)

    def bye(self, name: str = "c1", *, sequence: int = 2, **written: Any) -> None:
        self.within("BYE", name, sequence=sequence, **written)

    def reinvite(self, *, sequence: int = 2, **written: Any) -> None:
        self.within("INVITE", sequence=sequence, **({"sdp": OFFER} | written))

    def notify(
        self, said: str, *, sequence: int = 2, over: bool = False, event: str = "refer", kind: str = SIPFRAG
    ) -> None:
        """The caller tells what has become of our REFER: a status and its phrase."""
        state = "terminated;reason=noresource" if over else "active;expires=60"
        lines = f"Event: {event}\r\nSubscription-State: {state}\r\n"
        self.within("NOTIFY", sequence=sequence, sdp=said and f"SIP/2.0 {said}\r\n", kind=kind, extra=lines)

    def tag(self, name: str = "c1") -> str:
        """Our tag in the caller's dialog."""
        for _, message in reversed(self.sent):
            if isinstance(message, Response) and message.call_id == f"{name}@192.0.2.1" and message.status > 100:
                assert message.to_tag is not None
                return message.to_tag
        raise AssertionError(f"nothing has been answered to {name} yet")

    # What can be looked at

    def responses(
        self, status: int | None = None, method: str = "INVITE", *, sequence: int | None = None
    ) -> list[Response]:
        return [
            message
            for _, message in self.sent
            if isinstance(message, Response)
            and message.cseq.method == method
            and (status is None or message.status == status)
            and (sequence is None or message.cseq.number == sequence)
        ]

    def last(self, status: int, method: str = "INVITE") -> Response:
        return self.responses(status, method)[-1]

    def requests(self, method: str) -> list[Request]:
        """Our requests to the caller, each once, however often it was repeated."""
        found = {
            message.via.branch: message
            for _, message in self.sent
            if isinstance(message, Request) and message.method == method
        }
        return list(found.values())

    def times(self, status: int) -> list[float]:
        """When these responses to the INVITE left, in seconds since the first of them."""
        at = [at for at, message in self.sent if isinstance(message, Response) and message.status == status]
        return [round(each - at[0], 3) for each in at]

    @property
    def statuses(self) -> list[int]:
        """What the caller was answered to its INVITEs, in order."""
        return [message.status for message in self.responses()]

    @property
    def types(self) -> list[str]:
        """The events that have been delivered, once each, in the order of their first delivery."""
        return [body["type"] for body in self.bodies]

    def told(self, event_type: str) -> dict[str, Any]:
        """What the last event of this type said."""
        data: dict[str, Any] = next(body["data"] for body in reversed(self.bodies) if body["type"] == event_type)
        return data

    @property
    def ended(self) -> dict[str, Any]:
        """Why the call is over, as its last event in the store says."""
        _, body = self.stored_events()[-1]
        assert body["type"] == "call.ended", body["type"]
        ended: dict[str, Any] = body["data"]["ended"]
        return ended

    @property
    def call_id(self) -> CallId:
        return self.commits[0].calls[0].call

    @property
    def call(self) -> Call:
        call = self.node.call(self.call_id)
        assert call is not None
        return call

    def leftovers(self) -> dict[str, object]:
        """Everything the node, its worker and its store have not let go of; empty when all is over and done with."""
        holdings = self.node._holdings
        kept: dict[str, object] = {
            "legs": list(holdings.legs),
            "conversations": list(holdings.conversations),
            "tickets": list(holdings.tickets),
            "requests": list(holdings.ours),
            "look-ups": list(holdings.readers),
            "errands": list(holdings.errands),
            "unwritten": list(holdings.unwritten),
            "invites": list(holdings.invites),
            "live": holdings.live,
            "deadline": self.node.deadline(),
            "transactions": self.node.transactions(),
            "timers": len(holdings.agenda),
            "desks": dict(holdings.registrar.desks),
            "registrar's timers": len(holdings.registrar.agenda),
            "registrar's tickets": dict(holdings.registrar.tickets),
            "registrar's streams": dict(holdings.registrar.streams),
            "streams": dict(holdings.outbox._streams),
            "flights": dict(holdings.outbox._flights),
            "ports": list(self.ports),
            "stored": self.keyspace.claim_predecessors(f"{self.settings.node_id}:observer", "observer"),
        }
        return {what: left for what, left in kept.items() if left}


def _transaction(message: Request | Response) -> tuple[str | None, int]:
    return message.via.branch, message.cseq.number


def answered(world: World | None = None) -> World:
    """A world with one answered call."""
    world = world or World()
    world.reply = (ANSWER,)
    world.invite()
    world.ack()
    return world


def request(
    method: str,
    name: str = "c1",
    *,
    sequence: int = 1,
    sdp: str | None = None,
    to_tag: str | None = None,
    from_tag: str | None = None,
    user: str = "100",
    branch: str | None = None,
    contact: str = "<sip:caller@192.0.2.1:5062>",
    kind: str = "application/sdp",
    extra: str = "",
) -> str:
    """A message of the caller's."""
    to = f"<sip:{user}@192.0.2.10>" + (f";tag={to_tag}" if to_tag else "")
    branch = branch or f"z9hG4bK-{name}-{sequence}-{'INVITE' if method == 'CANCEL' else method}"
    body = sdp or ""
    content = f"Content-Type: {kind}\r\n" if body else ""
    return (
        f"{method} sip:{user}@192.0.2.10 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5062;branch={branch}\r\nMax-Forwards: 70\r\n"
        f"From: Caller <sip:caller@192.0.2.1>;tag={from_tag or f'from-{name}'}\r\nTo: {to}\r\nCall-ID: {name}@192.0.2.1\r\n"
        f"CSeq: {sequence} {method}\r\nContact: {contact}\r\n{extra}{content}Content-Length: {len(body)}\r\n\r\n{body}"
    )
