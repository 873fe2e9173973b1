"""A call on a bench: no node, no store; what it asks for is a list to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bridge.calls import machine
from bridge.calls.actions import Action, Answer, Hangup, Park, Pause, Proxy, Reject, Ring
from bridge.calls.answering import invited
from bridge.calls.call import Call, Identity, Plan
from bridge.calls.effects import CallEffect, Emit
from bridge.calls.events import Event
from bridge.calls.facts import CallId, Contact, ConversationId, Quality
from bridge.calls.inputs import (
    AcceptSent,
    Acknowledged,
    ByeReceived,
    CallInput,
    Commanded,
    Decided,
    MediaClosed,
    MediaOpened,
    ReInvited,
    Undecided,
)
from bridge.calls.passage import CopyLocated, PassageOpened, TargetsFound
from bridge.sdp.offer_answer import Negotiated
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.parser import parse
from bridge.sip.target_set import Target
from bridge.sip.transaction import server_key
from tests.engine.world import IDENTITY, OFFER, request, sdp

E = TypeVar("E")

CALL = CallId("call_" + "a" * 24)
CONVERSATION = ConversationId("conv_" + "b" * 24)
FLOW = Flow("udp", "udp:5060", "192.0.2.1", 5062)
TAG = "our-tag"


class Bench:
    """One call, and everything it has asked for."""

    def __init__(
        self, *, sdp: str | None = OFFER, plan: Plan | None = None, identity: Identity = IDENTITY, extra: str = ""
    ) -> None:
        self.now = 1000.0
        self.invite: Request | None = message(request("INVITE", sdp=sdp, extra=extra))
        self.plan = plan or Plan("front-desk")
        call = invited(
            id=CALL,
            conversation_id=CONVERSATION,
            plan=self.plan,
            identity=identity,
            tag=TAG,
            invite=self.invite,
            flow=FLOW,
            now=self.now,
        )
        assert isinstance(call, Call), call
        call.invite_key = server_key(self.invite)
        self.begin(call)

    def begin(self, call: Call) -> None:
        self.call = call
        self.effects: list[CallEffect] = machine.begin(call)

    def give(self, given: CallInput) -> list[CallEffect]:
        """One step; what it caused."""
        effects = machine.step(self.call, given, now=self.now)
        self.effects += effects
        self.call.sequence += sum(isinstance(effect, Emit) for effect in effects)
        return effects

    def decide(self, *actions: Action) -> list[CallEffect]:
        return self.give(Decided(actions))

    def command(self, *actions: Action, listed: bool = False) -> list[CallEffect]:
        return self.give(Commanded(actions, listed))

    def ack(self, body: str | None = None, *, sequence: int = 1) -> list[CallEffect]:
        return self.give(Acknowledged(sequence, message(request("ACK", sequence=sequence, sdp=body, to_tag=TAG))))

    def reinvite(self, body: str | None = OFFER, *, sequence: int = 2) -> list[CallEffect]:
        arrived = message(request("INVITE", sequence=sequence, sdp=body, to_tag=TAG))
        return self.give(ReInvited(server_key(arrived), arrived))

    def all(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def agreed(self) -> Negotiated:
        """What it speaks with its far end."""
        assert self.call.negotiated is not None
        return self.call.negotiated

    @property
    def events(self) -> list[Event]:
        return [effect.event for effect in self.all(Emit)]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


def message(text: str) -> Request:
    parsed = parse(text.encode("utf-8", "surrogateescape"))
    assert isinstance(parsed, Request), parsed
    return parsed


# A call in every phase, and in every state within it that a snapshot must keep


def unanswered() -> Bench:
    return Bench(extra="X-Ticket: 7\r\n")


def parked() -> Bench:
    bench = Bench()
    bench.decide()
    return bench


def passed_on() -> Bench:
    """To two who are asked one after the other; the first rings."""
    bench = Bench()
    asked = (Contact("sip:bob@192.0.2.2"), Contact("sip:carol@192.0.2.3", 0.5))
    bench.decide(Proxy(targets=asked, fork="serial", record_route=True))
    bench.give(PassageOpened("0123456789abcdef", 60))
    for each in asked:
        bench.give(TargetsFound(((Target(each.uri), None),)))
    bench.give(CopyLocated(0, FLOW))
    return bench


def listed() -> Bench:
    bench = Bench()
    bench.decide(Ring(client_state="mine"), Pause(seconds=5), Answer(headers={"X-A": ("1", "2")}), Park(timeout_s=9))
    return bench


def falling_back() -> Bench:
    bench = Bench(plan=Plan("front-desk", fallback=(Ring(), Pause(seconds=5), Reject(code=603, reason="Later"))))
    bench.give(Undecided("no_reply", "it said nothing"))
    return bench


def answering() -> Bench:
    bench = Bench()
    bench.decide(Answer(headers={"X-A": ("1", "2")}), Pause(seconds=3))
    return bench


def accepted(sdp: str | None = OFFER) -> Bench:
    bench = Bench(sdp=sdp)
    bench.decide(Answer(), Pause(seconds=3))
    bench.give(MediaOpened("192.0.2.10", 20000))
    return bench


def delayed() -> Bench:
    return accepted(sdp=None)


def sent() -> Bench:
    bench = accepted()
    bench.give(AcceptSent())
    return bench


def hanging_up() -> Bench:
    bench = sent()
    bench.command(Hangup(reason="enough", headers={"X-B": ("3",)}))
    return bench


def answered() -> Bench:
    bench = Bench()
    bench.decide(Answer())
    bench.give(MediaOpened("192.0.2.10", 20000))
    bench.give(AcceptSent())
    bench.ack()
    return bench


def timed() -> Bench:
    """With a session timer."""
    bench = Bench(extra="Supported: timer\r\nSession-Expires: 600;refresher=uas\r\n")
    bench.decide(Answer())
    bench.give(MediaOpened("192.0.2.10", 20000))
    bench.give(AcceptSent())
    bench.ack()
    bench.call.session_least = 300
    return bench


def held() -> Bench:
    bench = answered()
    bench.reinvite(sdp(direction="sendonly"))
    bench.give(AcceptSent())
    bench.ack(sequence=2)
    return bench


def moved() -> Bench:
    bench = answered()
    assert bench.call.dialog is not None
    bench.call.dialog.flow = FLOW._replace(port=7777)
    return bench


def ending() -> Bench:
    bench = answered()
    bench.give(ByeReceived(q850=16))
    return bench


def ended() -> Bench:
    bench = ending()
    bench.give(MediaClosed(Quality(packets_received=7)))
    return bench


def refused() -> Bench:
    bench = Bench()
    bench.decide(Reject(code=486))
    return bench


STATES: dict[str, Callable[[], Bench]] = {
    make.__name__: make
    for make in (
        unanswered,
        parked,
        passed_on,
        listed,
        falling_back,
        answering,
        accepted,
        delayed,
        sent,
        hanging_up,
        answered,
        timed,
        held,
        moved,
        ending,
        ended,
        refused,
    )
}
