"""The pump: gives a node its inputs, one at a time, and its effects to the adapters that carry them out.

The only place where a node meets the clock and the event loop. One input, one full drain, no `await` in it; what the inputs
of one turn of the loop have changed is written at its end. The one timer of the loop follows the node's one deadline, at
most once in `GRAIN_S`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, overload

import structlog

from bridge.ambient import Clock
from bridge.calls.events import REFERRING
from bridge.contract.replies import read_registration_reply, read_reply, read_transfer_reply
from bridge.engine.commit import Ack, Commit, Postponed, Release
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
    HeldPorts,
    LeavePlace,
    Noted,
    OpenPorts,
    Originated,
    OriginateRefused,
    PassOn,
    Postpone,
    Resolve,
    SetRule,
    TakePlace,
    Yielded,
    YieldRefused,
)
from bridge.engine.inputs import (
    Command,
    Delivered,
    FlowLost,
    Input,
    NotFetched,
    Originate,
    Packet,
    Returned,
    StoreAway,
    StoreBack,
    StoreReplaced,
    StreamBroken,
    Woken,
    Yield,
)
from bridge.engine.node import Node
from bridge.engine.registrations import ASKING, Deregistered, ForgetEvents, ReadBindings, WriteRegistration
from bridge.errors import BridgeError, StoreUnavailable
from bridge.outbox.effects import Delivery
from bridge.outbox.health import advice
from bridge.outbox.schedule import Outcome
from bridge.sip.flow import Flow, Send
from bridge.telemetry.flood import Flood
from bridge.telemetry.logging import write
from bridge.telemetry.metrics import Metrics

log = structlog.get_logger("bridge.node")

# The node is not woken more often than this, and its deadlines may be late by so much: SIP's own are a hundred times
# longer. Measured: with a wake-up for each of two deadlines per call, 200 calls/s pay a tenth of their CPU for it.
GRAIN_S = 0.005

# What a decision's reply is read by; any other is a list of actions.
_READERS = {ASKING: read_registration_reply, REFERRING: read_transfer_reply}
_LET_GO = "this process has let go of its calls"
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}  # as the standard library counts them


Answer: TypeAlias = CommandAccepted | CommandRefused | Originated | OriginateRefused | Yielded | YieldRefused


class PacketOutlet(Protocol):
    """A SIP listener."""

    def send(self, send: Send) -> None: ...


class WriteOutlet(Protocol):
    """The hot half of a store."""

    def commit(self, commit: Commit) -> None: ...
    def acknowledge(self, acks: tuple[Ack, ...]) -> None: ...
    def postpone(self, postponed: Postponed) -> None: ...
    def release(self, release: Release) -> None: ...
    def read_bindings(self, wanted: ReadBindings) -> None: ...
    def write_registration(self, write: WriteRegistration) -> None: ...
    def forget_events(self, settled: ForgetEvents) -> None: ...


class MediaOutlet(Protocol):
    """The media workers."""

    def open_ports(self, wanted: OpenPorts) -> None: ...
    def set_rule(self, wanted: SetRule) -> None: ...
    def close_ports(self, wanted: ClosePorts) -> None: ...
    def reconcile(self, sessions: Mapping[str, HeldPorts]) -> None: ...


class RegistrationOutlet(Protocol):
    """Who has asked for bindings to be removed."""

    def deregistered(self, said: Deregistered) -> None: ...


class WebhookOutlet(Protocol):
    """The webhook sender."""

    def send(self, delivery: Delivery) -> None: ...


class NodeOutlet(Protocol):
    """The way to other nodes."""

    def pass_on(self, wanted: PassOn) -> None: ...
    def fetch(self, wanted: Fetch) -> None: ...
    def send_there(self, send: Send) -> None: ...


class NameOutlet(Protocol):
    """What looks names up."""

    def resolve(self, wanted: Resolve) -> None: ...


class TrunkOutlet(Protocol):
    """What knows how many calls go by each trunk."""

    def take_place(self, wanted: TakePlace) -> None: ...
    def leave_place(self, left: LeavePlace) -> None: ...


class Pump:
    """Between one node and the world. Belongs to the event loop's thread."""

    node: Node  # once connected

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self.store_came_back = asyncio.Event()  # set each time; whoever waits for it clears it
        self._inbox: deque[Input] = deque()
        self._busy = False
        self._write_comes = False  # at the end of this turn of the loop
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0  # what the timer is set to
        self._woken_at = 0.0  # when it last woke the node
        self._level: int = log.get_effective_level()  # what is below costs nothing
        self._asked: dict[int, asyncio.Future[Any]] = {}  # by request: who waits for its answer
        self._carry: dict[type[Effect], Callable[..., None]] = {
            CommandAccepted: self._answered,
            CommandRefused: self._answered,
            Originated: self._answered,
            OriginateRefused: self._answered,
            Yielded: self._answered,
            YieldRefused: self._answered,
            Dropped: self._dropped,
            Noted: self._noted,
        }
        self._counted: dict[str, Callable[[Mapping[str, object]], None]] = {
            "call_answered": lambda facts: metrics.setup_seconds.observe(float(str(facts["ring_s"]))),
            "call_ended": lambda facts: metrics.call_ended(str(facts["reason"])),
            "source_banned": lambda facts: metrics.source_bans.inc(),
            "authentication_failed": lambda facts: metrics.authentication_failed(str(facts["why"])),
        }
        self._closed = False
        self._faults = Flood()
        self._warnings: dict[str, Flood] = {}  # by event
        self._failures: dict[str, Flood] = {}  # by endpoint: one that is down must not hide what another one needs
        self._outlets: dict[str, PacketOutlet] = {}
        self._nodes: NodeOutlet | None = None
        self._requests = 0

    def connect(
        self,
        node: Node,
        *,
        listeners: Mapping[str, PacketOutlet],
        store: WriteOutlet,
        media: MediaOutlet,
        webhooks: WebhookOutlet,
        names: NameOutlet,
        registrations: RegistrationOutlet,
        trunks: TrunkOutlet,
        nodes: NodeOutlet | None = None,
    ) -> None:
        """Whose inputs and where effects go. Before the first input."""
        self.node = node
        self._outlets = dict(listeners)
        self._carry |= {
            Send: self._send,
            Commit: store.commit,
            Acknowledge: lambda effect: store.acknowledge(effect.acks),
            Postpone: lambda effect: store.postpone(effect.postponed),
            Release: store.release,
            ReadBindings: store.read_bindings,
            WriteRegistration: store.write_registration,
            ForgetEvents: store.forget_events,
            Deregistered: registrations.deregistered,
            Deliver: lambda effect: webhooks.send(effect.delivery),
            OpenPorts: media.open_ports,
            SetRule: media.set_rule,
            ClosePorts: media.close_ports,
            AdoptPorts: lambda effect: media.reconcile(effect.sessions),
            Resolve: names.resolve,
            TakePlace: trunks.take_place,
            LeavePlace: trunks.leave_place,
        }
        self._nodes = nodes
        self._carry[PassOn] = self._give_back if nodes is None else nodes.pass_on
        self._carry[Fetch] = self._not_fetched if nodes is None else nodes.fetch

    def close(self) -> None:
        """Deaf and still from now on: what adapters say while they are closed, or find out later, is not heard."""
        if self._write_comes:
            self._write()
        self._closed = True
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(StoreUnavailable(_LET_GO))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def give(self, given: Input) -> None:
        """Take one input and carry out everything it causes.

        An adapter that answers from within an effect is heard after the input that caused the effect.
        """
        if self._closed:
            return
        self._inbox.append(given)
        if not self._busy:
            self._busy = True
            self._drain_all()

    def _drain_all(self) -> None:
        inbox = self._inbox
        now = self._clock.now()
        while inbox:
            self._drain(inbox.popleft(), now)
        self._busy = False
        if self.node.unwritten and not self._write_comes:
            self._write_comes = True
            asyncio.get_running_loop().call_soon(self._write)
        if self._timer is None or self._wakes_at > now + GRAIN_S:
            self._set_timer(now)

    def _drain(self, given: Input, now: float) -> None:
        """One input and all its effects. A fault of ours in the step of one call must not stop the others."""
        try:
            effects = self.node.take(given, now=now)
        except Exception:  # noqa: BLE001 -- whatever it is, it is told with its traceback, and counted
            self._faulted(given)
            return
        self._carry_out(effects)

    def _write(self) -> None:
        """What the inputs of this turn of the loop have changed."""
        self._write_comes = False
        if self._closed:
            return
        self._busy = True
        self._carry_out(self._writes())
        self._drain_all()

    def _writes(self) -> list[Effect]:
        """Of every conversation that has changed, but for those in whose writing there is a fault of ours."""
        while True:
            try:
                return self.node.write()
            except Exception:  # noqa: BLE001 -- as above; where it has happened is not unwritten any more
                self._faulted(None)

    def _carry_out(self, effects: list[Effect]) -> None:
        carry = self._carry
        for effect in effects:
            try:
                carry[type(effect)](effect)
            except Exception:  # noqa: BLE001 -- as above, and the effects behind it are others' too
                self._faulted(effect)

    def _faulted(self, about: Input | Effect | None) -> None:
        """`about`: what it has happened with; None: a write."""
        self._metrics.dropped("fault")
        waiting = self._asked.get(about.request) if isinstance(about, Command | Originate | Yield) else None
        if waiting is not None and not waiting.done():
            waiting.set_exception(BridgeError("its step has failed, and the log says how"))
        withheld = self._faults.admit(self._clock.now())
        if withheld is not None:
            call = getattr(about, "call", None) or getattr(about, "session", None)
            log.exception(
                "fault",
                about="write" if about is None else type(about).__name__,
                **({"call": call} if call else {}),
                **_withheld(withheld),
            )

    def packet(self, packet: Packet) -> None:
        """A packet of a listener."""
        self._metrics.sip_message("in", packet.data)
        self.give(packet)

    def stream(self, given: Packet | StreamBroken | FlowLost) -> None:
        """What a listener with connections says."""
        if isinstance(given, Packet):
            self._metrics.sip_message("in", given.data)
        self.give(given)

    def dropped(self, reason: str, flow: Flow | None) -> None:
        """What an adapter has ignored on purpose; `reason` as in the effect."""
        self._dropped(Dropped(reason, flow))

    def store(self, given: Input) -> None:
        """What the store says."""
        if isinstance(given, StoreAway):
            log.error("store_away", advice="live calls go on; new ones get 503 until it is back")
        elif isinstance(given, StoreBack):
            log.warning("store_back")
            self.store_came_back.set()
        elif isinstance(given, StoreReplaced):
            log.warning("store_replaced", detail="it has another history now: every call is asked for, or told anew")
            self.store_came_back.set()
        self.give(given)

    def delivered(self, delivery: Delivery, outcome: Outcome) -> None:
        """A webhook attempt is over."""
        if self._closed:
            return  # broken off because we end; the store knows that it is not delivered
        self._metrics.webhook_attempt(outcome)
        reply = None
        if delivery.decision and outcome.delivered and outcome.error is None:
            reads = _READERS.get(delivery.event_type, read_reply)
            reply = reads(outcome.body, outcome.content_type)
        elif not delivery.decision and not outcome.delivered:
            self._tell_failure(delivery, outcome)  # of a decision's failure the engine tells, with what comes of it
        self.give(Delivered(delivery.delivery, outcome, reply))

    @overload
    async def ask(self, asked: Command) -> CommandAccepted | CommandRefused: ...
    @overload
    async def ask(self, asked: Originate) -> Originated | OriginateRefused: ...
    @overload
    async def ask(self, asked: Yield) -> Yielded | YieldRefused: ...
    async def ask(self, asked: Command | Originate | Yield) -> object:
        """Give it, and wait for its answer, which may depend on a write. Whoever asks says how long that is worth.

        StoreUnavailable once closed: another process will know.
        """
        if self._closed:
            raise StoreUnavailable(_LET_GO)
        waiting = self._asked[asked.request] = asyncio.get_running_loop().create_future()
        try:
            self.give(asked)
            return await waiting
        finally:
            del self._asked[asked.request]

    def _tell_failure(self, delivery: Delivery, outcome: Outcome) -> None:
        """One line that says what to do."""
        flood = self._failures.get(delivery.endpoint)
        if flood is None:
            flood = self._failures[delivery.endpoint] = Flood()
        withheld = flood.admit(self._clock.now())
        if withheld is None:
            return
        log.warning(
            "webhook_failed",
            call=delivery.call,
            type=delivery.event_type,
            endpoint=delivery.endpoint,
            attempt=delivery.attempt,
            advice=advice(delivery.url, outcome),
            **_withheld(withheld),
        )

    # Effects that end here

    def _send(self, send: Send) -> None:
        if send.flow.node and self._nodes is not None:
            self._nodes.send_there(send)
            return
        self._metrics.sip_message("out", send.data)
        self._outlets[send.flow.listener].send(send)

    def _give_back(self, wanted: PassOn) -> None:
        """There are no other nodes."""
        self.give(Returned(wanted.data, wanted.flow))

    def _not_fetched(self, wanted: Fetch) -> None:
        """As above."""
        self.give(NotFetched(wanted.call, wanted.action_id, "not_found", f"{wanted.other} is not alive here"))

    def leave(self, send: Send) -> None:
        """Send what another node says, by the listener of this flow, or by one like it."""
        named = self._outlets.get(send.flow.listener)
        kind = f"{send.flow.transport}:"
        outlet = named or next((each for name, each in self._outlets.items() if name.startswith(kind)), None)
        if outlet is None:
            self._dropped(Dropped("no_listener", send.flow))
        else:
            self._metrics.sip_message("out", send.data)
            outlet.send(send)

    def new_request(self) -> int:
        """A number for somebody who is about to ask."""
        self._requests += 1
        return self._requests

    def _answered(self, effect: Answer) -> None:
        waiting = self._asked.get(effect.request)
        if waiting is not None and not waiting.done():  # else nobody waits any longer
            waiting.set_result(effect)

    def _dropped(self, effect: Dropped) -> None:
        self._metrics.dropped(effect.reason)
        write(log, effect)

    def _noted(self, effect: Noted) -> None:
        count = self._counted.get(effect.event)
        if count is not None:
            count(dict(effect.facts))
        if _LEVELS[effect.level] < self._level:
            return
        if effect.level == "warning" and effect.call is None:  # strangers cause as many of these as they like
            withheld = self._warnings.setdefault(effect.event, Flood()).admit(self._clock.now())
            if withheld is None:
                return
            if withheld:
                effect = effect._replace(facts=(*effect.facts, ("withheld_before", withheld)))
        write(log, effect)

    # The one timer

    def _set_timer(self, now: float) -> None:
        """Follow the deadline, where the timer does not wake early enough already: it looks again then."""
        deadline = self.node.deadline()
        if deadline is None:
            return
        wakes_at = max(deadline, self._woken_at + GRAIN_S)
        timer = self._timer
        if timer is not None:
            if self._wakes_at <= wakes_at:
                return
            timer.cancel()
        self._wakes_at = wakes_at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, wakes_at - now), self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._woken_at = self._clock.now()
        self.give(Woken())


def _withheld(lines: int) -> dict[str, int]:
    """How many lines of the kind were not written before this one, where there were any."""
    return {"withheld_before": lines} if lines else {}
