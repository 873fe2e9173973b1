"""One process of the service: a real engine, and what its adapters do in this world.

`Process._carry` is the one place that says what becomes of each effect; one that is not in it fails the run, so that whoever
gives the engine a new effect has to say there what it means.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from random import Random
from typing import Any, Final, TypeAlias

from bridge.calls.actions import Action
from bridge.calls.events import REFERRING
from bridge.calls.facts import CallId
from bridge.cluster import Receiver
from bridge.contract.replies import read_reply, read_transfer_reply
from bridge.engine.commit import Commit, Release
from bridge.engine.effects import (
    Acknowledge,
    AdoptPorts,
    ClosePorts,
    CommandAccepted,
    CommandRefused,
    Deliver,
    Dropped,
    Effect,
    Fetch,
    Noted,
    OpenPorts,
    Originated,
    OriginateRefused,
    PassOn,
    Postpone,
    Resolve,
    SetRule,
    Yielded,
    YieldRefused,
)
from bridge.engine.inputs import (
    Claimed,
    Command,
    Delivered,
    Input,
    NotFetched,
    Originate,
    Packet,
    Resolved,
    Returned,
    Woken,
    Yield,
)
from bridge.engine.node import Node
from bridge.engine.registrations import (
    Deregistered,
    ForgetEvents,
    ReadBindings,
    RegistrationsDue,
    StreamsClaimed,
    WriteRegistration,
)
from bridge.engine.settings import NodeSettings
from bridge.errors import StoreUnavailable
from bridge.membership import LEASE_S, RENEW_S, RETRY_S
from bridge.outbox.effects import Delivery
from bridge.outbox.schedule import Outcome
from bridge.pump import GRAIN_S
from bridge.registry import DUE_AT_ONCE, LOOK_S
from bridge.service import ContractRenderer
from bridge.sip.flow import Flow, Send
from bridge.sip.locating import Hop
from bridge.store import Lease
from bridge.telemetry.metrics import Metrics
from tests.engine.world import Sealing
from tests.sim.clock import Planned, VirtualClock
from tests.sim.cluster import Links
from tests.sim.company import Company, SeededTokens
from tests.sim.ladder import Ladder
from tests.sim.loop import ProcessLoop
from tests.sim.media import Workers
from tests.sim.network import Address, Network
from tests.sim.store import Link, Server, at_once

DRAIN_LIMIT_S = 30.0
ALL_THAT_WAITS = 1_000_000
METRICS = Metrics()  # which nobody reads
REST_PATIENCE_S = 10.0  # as `bridge.api` has it
SOCKET_BUFFER = 200  # datagrams that wait for a process that stands still
LISTENER: Final = "udp:5060"

Answer: TypeAlias = CommandAccepted | CommandRefused | Originated | OriginateRefused | Yielded | YieldRefused
Post: TypeAlias = Callable[["Process", Delivery, Callable[[Outcome], None]], None]
Give: TypeAlias = Callable[[Any], list[Effect]]
# A planted bug: what a node does instead with an input, or, where there is none, with what is to be written.
Mischief: TypeAlias = Callable[["Process", Input | None, Give], list[Effect]]


class Process:
    """One incarnation. It hears nothing any more once it is dead, and only later while it stands still."""

    def __init__(
        self,
        settings: NodeSettings,
        *,
        address: Address,
        clock: VirtualClock,
        chance: Random,
        network: Network,
        store: Server,
        workers: Workers,
        post: Post,
        names: Mapping[str, tuple[Hop, ...]],
        ladder: Ladder,
        links: Links | None = None,
        mischief: Mischief | None = None,
    ) -> None:
        """`links`: to other nodes; without them it is alone, though it shares their store."""
        self.settings = settings
        self.address = address
        self.node = Node(
            settings, render=ContractRenderer(), tokens=SeededTokens(chance), chance=chance.random, seal=Sealing()
        )
        self.alive, self.open = True, False
        self.draining = False
        self.loop = ProcessLoop(clock, self.soon)
        self.standing_still = False
        self.replaced = False  # another process bears its name
        self.notes: list[Noted] = []
        self.link: Link = store.connect(self.give)
        self._clock = clock
        self._chance = chance
        self._network = network
        self._store = store
        self._workers = workers
        self._post = post
        self._names = names
        self._ladder = ladder
        self._mischief = mischief
        self._inbox: deque[Input] = deque()
        self._waiting: deque[Callable[[], None]] = deque()  # while it stands still
        self._datagrams = 0  # of those
        self._busy = False
        self._write_comes = False
        self._timer: Planned | None = None
        self._woken_at = 0.0
        self._asked: dict[int, Callable[[Answer], None]] = {}
        self._requests = 0
        self._carry: dict[type[Effect], Callable[[Any], None]] = {
            Send: self._send,
            Commit: self.link.commit,
            Acknowledge: lambda effect: self.link.acknowledge(effect.acks),
            Postpone: lambda effect: self.link.postpone(effect.postponed),
            Release: self.link.release,
            ReadBindings: self.link.read_bindings,
            WriteRegistration: self.link.write_registration,
            ForgetEvents: self.link.forget_events,
            Deliver: lambda effect: post(self, effect.delivery, partial(self._delivered, effect.delivery)),
            OpenPorts: workers.open_ports,
            SetRule: workers.set_rule,
            ClosePorts: workers.close_ports,
            AdoptPorts: lambda effect: workers.reconcile(effect.sessions),
            Resolve: self._resolve,
            CommandAccepted: self._answered,
            CommandRefused: self._answered,
            Originated: self._answered,
            OriginateRefused: self._answered,
            Yielded: self._answered,
            YieldRefused: self._answered,
            PassOn: self._pass_on,
            Fetch: self._fetch,
            Deregistered: lambda effect: None,  # nobody here asks for that
            Dropped: lambda effect: ladder.tell(self.name, "", f"drops: {effect.reason} {effect.detail}"),
            Noted: self._noted,
        }
        self.company = None if links is None else Company(self, links, clock, chance)

    @property
    def name(self) -> str:
        """Of its node."""
        return self.settings.node_id

    @property
    def owner(self) -> str:
        return self.settings.owner

    # Its life

    def start(self) -> None:
        """Announce itself, take up what its predecessors have left, then listen; as `bridge.service` does it."""
        if self.company is not None:
            self.loop.create_task(self.company.live(), name="life")
        elif self.alive:
            self._start_alone()

    def _start_alone(self) -> None:
        try:
            self._announce()
            conversations = at_once(self.link.claim_predecessors(self.settings.owner, self.settings.nonce))
            streams = at_once(self.link.claim_streams(self.settings.owner, self.settings.node_id))
        except StoreUnavailable:
            self._clock.later(RETRY_S, self.start)
            return
        self._ladder.tell(self.name, "", f"is {self.settings.owner}, and claims {len(conversations)} conversations")
        self.give(Claimed(tuple(conversations)))
        self.give(StreamsClaimed(tuple(streams)))
        self._clock.later(RENEW_S, self._keep_lease)
        self.listen()

    def listen(self) -> None:
        self._network.listen(self.address, self._packet)
        self.open = True
        self._expire()

    def stop(self) -> None:
        """As SIGTERM does it: its calls go to others, and it ends."""
        if self.company is not None and self.open and not self.draining:
            self.draining = True
            self.loop.create_task(self.company.wind_down(), name="winding down")

    def end(self) -> None:
        """In good order: everything that it has asked of the store has left."""
        self._end(ALL_THAT_WAITS)

    def kill(self) -> None:
        """As `kill -9` does it: some of what it has asked of the store has left, and nothing else is said."""
        self._end(self._chance.randrange(4))

    def _end(self, writes: int) -> None:
        """`writes`: how many of those that wait for the store are applied yet."""
        self.alive = self.open = False
        self._network.close(self.address)
        self.link.die(writes)
        self._store.forget(self.link)
        self.loop.die()
        if self._timer is not None:
            self._timer.cancel()

    def is_replaced(self, by: str) -> None:
        """Another process bears its name."""
        self.replaced = True
        self.kill()

    def stand_still(self) -> None:
        """As SIGSTOP does it."""
        self.standing_still = True

    def go_on(self) -> None:
        """As SIGCONT does it: everything that has waited comes at once."""
        self.standing_still, self._datagrams = False, 0
        while self._waiting and self.alive and not self.standing_still:
            self._waiting.popleft()()

    def _keep_lease(self) -> None:
        if self._later_if_still(self._keep_lease):
            return
        try:
            lease = self._announce()
            if lease.replaced_by is not None:
                self.is_replaced(lease.replaced_by)
                return
        except StoreUnavailable:
            pass
        self._clock.later(RENEW_S, self._keep_lease)

    def _announce(self) -> Lease:
        return at_once(self.link.announce(self.settings.owner, b"{}", LEASE_S))

    def _expire(self) -> None:
        """Bindings whose time is up; as `bridge.registry` looks for them."""
        if self._later_if_still(self._expire):
            return
        try:
            due = at_once(self.link.due_registrations(int(self._clock.now() * 1000), DUE_AT_ONCE))
        except StoreUnavailable:
            pass
        else:
            if due.aors:
                self.give(RegistrationsDue(due.aors))
        self._clock.later(LOOK_S, self._expire)

    def _later_if_still(self, call: Callable[[], None]) -> bool:
        """Whether this cannot happen now: never, or once it goes on."""
        if self.alive and self.standing_still:
            self._waiting.append(call)
        return not self.alive or self.standing_still

    # Inputs

    def give(self, given: Input) -> None:
        """One input and everything that it causes; as `bridge.pump` does it."""
        if self._later_if_still(partial(self.give, given)):
            return
        self._inbox.append(given)
        if self._busy:
            return
        self._busy = True
        now = self._clock.now()
        while self._inbox:
            each = self._inbox.popleft()
            take = partial(self.node.take, now=now)
            self._carry_out(take(each) if self._mischief is None else self._mischief(self, each, take))
        self._busy = False
        if self.node.unwritten and not self._write_comes:
            self._write_comes = True
            self._clock.later(0.0, self._write)
        self._set_timer(now)

    def _write(self) -> None:
        """What the inputs of this moment have changed."""
        if self._later_if_still(self._write):
            return
        self._write_comes = False
        self._carry_out(self.node.write() if self._mischief is None else self._mischief(self, None, self._written))
        self._set_timer(self._clock.now())

    def _written(self, _: Input | None) -> list[Effect]:
        return self.node.write()

    def _carry_out(self, effects: list[Effect]) -> None:
        with self.loop.running():
            for effect in effects:
                self._carry[type(effect)](effect)

    def _set_timer(self, now: float) -> None:
        deadline = self.node.deadline()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None and self.alive:
            self._timer = self._clock.at(max(now, deadline, self._woken_at + GRAIN_S), self._wake)

    def _wake(self) -> None:
        if not self._later_if_still(self._wake):
            self._woken_at = self._clock.now()
            self.give(Woken())

    def _packet(self, data: bytes, source: Address) -> None:
        if self.standing_still:
            self._datagrams += 1
            if self._datagrams > SOCKET_BUFFER:
                return
        self.give(Packet(data, Flow("udp", LISTENER, *source)))

    def _delivered(self, delivery: Delivery, outcome: Outcome) -> None:
        """A webhook attempt is over."""
        reply = None
        if delivery.decision and outcome.delivered and outcome.error is None:
            reads = read_transfer_reply if delivery.event_type == REFERRING else read_reply
            reply = reads(outcome.body, outcome.content_type)
        self.give(Delivered(delivery.delivery, outcome, reply))

    def _resolve(self, wanted: Resolve) -> None:
        found = Resolved(wanted.reader, self._names.get(wanted.wanted.host, ()))
        self._clock.later(self._chance.uniform(0.001, 0.2), partial(self.give, found))

    # Other nodes

    @property
    def receiver(self) -> Receiver:
        """Who hears other nodes."""
        assert self.company is not None
        return self.company.switchboard

    def packet(self, packet: Packet) -> None:
        """What came to another node's socket."""
        self.give(packet)

    def soon(self, call: Callable[[], None]) -> None:
        """Something has come for it: it happens as soon as it can."""
        if not self._later_if_still(call):
            call()

    def leave(self, send: Send) -> None:
        """By our own socket, whoever says it."""
        if self.alive:
            self._network.send(self.address, (send.flow.host, send.flow.port), send.data)

    def _send(self, send: Send) -> None:
        if send.flow.node and self.company is not None:
            self.company.switchboard.send_there(send)
        else:
            self.leave(send)

    def _pass_on(self, wanted: PassOn) -> None:
        if self.company is not None:
            self.company.switchboard.pass_on(wanted)
        else:
            self.give(Returned(wanted.data, wanted.flow))

    def _fetch(self, wanted: Fetch) -> None:
        if self.company is not None:
            self.company.switchboard.fetch(wanted)
        else:
            self.give(NotFetched(wanted.call, wanted.action_id, "not_found", f"{wanted.other} is not alive here"))

    def tell(self, what: str) -> None:
        """A line in the ladder."""
        self._ladder.tell(self.name, "", what)

    # REST

    def request(self, make: Callable[[int], Input], answered: Callable[[Answer], None]) -> None:
        """Where the process dies it is never answered. `make` is given the request's number."""
        number = self.new_request()
        self._asked[number] = answered
        self.give(make(number))

    def command(
        self, call: CallId, actions: tuple[Action, ...], *, listed: bool, answered: Callable[[Answer], None]
    ) -> None:
        """Run these actions, wherever the call is."""
        if self.company is None:
            self.request(lambda number: Command(number, call, actions, listed=listed), answered)
        else:
            work = partial(self.company.command, call, actions, listed=listed, answered=answered)
            self.soon(lambda: self._begin(work()))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.create_task(work)

    def new_request(self) -> int:
        """A number for somebody who is about to ask."""
        self._requests += 1
        return self._requests

    async def ask(self, asked: Command | Originate | Yield) -> Answer:
        """Give it, and wait for its answer; as `bridge.pump` does it."""
        heard: asyncio.Future[Answer] = self.loop.create_future()
        self._asked[asked.request] = partial(_hear, heard)
        try:
            self.give(asked)
            return await heard
        finally:
            self._asked.pop(asked.request, None)

    def _answered(self, effect: Answer) -> None:
        answered = self._asked.pop(effect.request, None)
        if answered is not None:
            answered(effect)

    def _noted(self, noted: Noted) -> None:
        if noted.level in ("warning", "error"):
            self.notes.append(noted)
        facts = " ".join(f"{name}={value}" for name, value in noted.facts)
        self._ladder.tell(self.name, "", f"notes: {noted.event} {(noted.call or '')[:12]} {facts}")


def _hear(heard: asyncio.Future[Answer], answer: Answer) -> None:
    if not heard.done():
        heard.set_result(answer)
