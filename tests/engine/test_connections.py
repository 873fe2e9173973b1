"""Calls over connections: they are lost, and what was on its way is told of or goes another way (§17.1.4, §18.2.2)."""

from __future__ import annotations

from bridge.calls.actions import Hangup
from bridge.engine.effects import Dropped, Effect, Noted
from bridge.engine.inputs import FlowLost, StreamBroken
from bridge.engine.settings import Listener
from bridge.sip.flow import Flow, Send
from bridge.sip.parser import Request, Response, parse
from bridge.sip.user_agent import respond
from tests.engine.world import ANSWER, IDENTITY, OFFER, World, request, settings

CALLER = Flow("tcp", "tcp:5060", "192.0.2.1", 40000)  # an ephemeral port: nobody listens there


def reachable() -> World:
    """A node that listens on TCP, and an application that answers."""
    listeners = {"tcp:5060": Listener("tcp:5060", "192.0.2.10:5060", IDENTITY)}
    world = World(settings(listeners=listeners))
    world.reply = (ANSWER,)
    return world


def say(world: World, method: str, *, flow: Flow = CALLER, **written: object) -> list[Effect]:
    """A message of the caller's over a connection."""
    text = request(method, **written)  # type: ignore[arg-type]
    return world.packet(text.replace("SIP/2.0/UDP", "SIP/2.0/TCP"), flow)


def answered() -> World:
    world = reachable()
    say(world, "INVITE", sdp=OFFER)
    say(world, "ACK", to_tag=world.tag())
    return world


def sends(effects: list[Effect]) -> list[tuple[Flow, Request | Response]]:
    found = []
    for each in effects:
        if isinstance(each, Send):
            message = parse(each.data)
            assert isinstance(message, Request | Response)
            found.append((each.flow, message))
    return found


def unanswered_byes(world: World) -> int:
    return sum(isinstance(each, Noted) and each.event == "bye_unanswered" for each in world.effects)


def test_a_call_over_a_connection_stays_on_it() -> None:
    world = answered()
    world.ask(Hangup())
    (bye,) = world.requests("BYE")
    assert str(bye.via).startswith("SIP/2.0/TCP 192.0.2.10:5060;")
    assert {flow for flow, _ in sends(world.effects)} == {CALLER}
    world.packet(respond(bye, 200).encode(), CALLER)
    world.advance(60)
    assert world.leftovers() == {}


def test_a_bye_that_cannot_leave_is_told_once() -> None:
    world = answered()
    world.ask(Hangup())
    world.give(FlowLost(CALLER))
    world.give(FlowLost(CALLER))
    assert unanswered_byes(world) == 1
    assert world.types[-1] == "call.ended"
    world.advance(60)
    assert world.leftovers() == {}


def test_a_lost_connection_alone_ends_no_call() -> None:
    world = answered()
    assert world.give(FlowLost(CALLER)) == []
    assert world.call.state == "answered"


# A stream that cannot be cut into messages


def broken(data: str, reason: str = "Missing Content-Length", status: int = 400) -> list[Effect]:
    return reachable().give(StreamBroken(data.encode(), CALLER, reason, status))


def test_where_it_breaks_is_answered_by_the_way_it_came() -> None:
    text = request("INVITE").replace("SIP/2.0/UDP", "SIP/2.0/TCP").replace("Content-Length: 0\r\n", "")
    (answer, dropped) = broken(text)
    ((flow, response),) = sends([answer])
    assert isinstance(response, Response)
    assert (flow, response.status, response.reason) == (CALLER, 400, "Missing Content-Length")
    assert dropped == Dropped("malformed", CALLER, "Missing Content-Length")


def test_also_where_the_parser_would_say_something_else() -> None:
    text = request("OPTIONS").replace("Content-Length: 0", "Content-Length: 70000")
    ((_, response),) = sends(broken(text, "Message Too Large", 513)[:1])
    assert isinstance(response, Response)
    assert (response.status, response.reason) == (513, "Message Too Large")


def test_an_ack_a_response_and_what_is_no_sip_are_not_answered() -> None:
    for text in (request("ACK"), "SIP/2.0 200 OK\r\nVia: x\r\n\r\n", "\x16\x03\x01", ""):
        assert [type(each) for each in broken(text)] == [Dropped]
