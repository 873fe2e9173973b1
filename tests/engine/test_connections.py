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
    assert unanswered_byes(world) == 0
    world.give(FlowLost(LISTENING))
    assert unanswered_byes(world) == 1
    assert world.types[-1] == "call.ended"
    world.advance(60)
    assert world.leftovers() == {}


def test_a_lost_connection_alone_ends_no_call() -> None:
    world = answered()
    assert world.give(FlowLost(CALLER)) == []
    assert world.call.state == "answered"


LISTENING = CALLER._replace(port=5062)  # where the caller's Via and Contact say that it can be reached


def test_a_200_goes_where_the_caller_listens_when_its_connection_is_gone() -> None:
    """§18.2.2; its repetitions and the ACK's connection too."""
    world = reachable()
    world.reply = None
    say(world, "INVITE", sdp=OFFER)
    world.give(FlowLost(CALLER))
    world.decide(ANSWER)
    world.advance(1.0)
    accepted = [flow for flow, message in sends(world.effects) if getattr(message, "status", 0) == 200]
    assert accepted == [LISTENING] * 2
    back = CALLER._replace(port=40001)
    say(world, "ACK", to_tag=world.tag(), flow=back)
    assert world.types[-1] == "call.answered"
    say(world, "BYE", sequence=2, to_tag=world.tag(), flow=back)
    assert sends(world.effects)[-1][0] == back
    world.advance(60)
    assert world.leftovers() == {}


def test_a_200_that_was_lost_with_its_connection_is_repeated_by_the_other_way() -> None:
    world = reachable()
    say(world, "INVITE", sdp=OFFER)
    world.give(FlowLost(CALLER))
    world.advance(1.0)
    accepted = [flow for flow, message in sends(world.effects) if getattr(message, "status", 0) == 200]
    assert accepted == [CALLER, LISTENING]


def test_a_caller_that_comes_back_by_another_connection_has_its_call() -> None:
    world = answered()
    world.give(FlowLost(CALLER))
    back = CALLER._replace(port=40001)
    say(world, "INVITE", sequence=2, sdp=OFFER, to_tag=world.tag(), flow=back)
    say(world, "ACK", sequence=2, to_tag=world.tag(), flow=back)
    world.ask(Hangup())
    assert [flow for flow, message in sends(world.effects) if getattr(message, "method", "") == "BYE"] == [back]


def test_a_bye_whose_connection_is_lost_goes_to_the_contact() -> None:
    world = answered()
    world.ask(Hangup())
    effects = world.give(FlowLost(CALLER))
    ((flow, bye),) = sends(effects)
    assert isinstance(bye, Request)
    first, second = world.requests("BYE")
    assert (flow, bye.cseq, bye.headers.get("Reason")) == (LISTENING, first.cseq, first.headers.get("Reason"))
    assert second.via.branch != first.via.branch
    world.packet(respond(bye, 200).encode(), LISTENING)
    world.advance(60)
    assert unanswered_byes(world) == 0
    assert world.leftovers() == {}


def test_after_a_crash_no_connection_is_left_and_calls_are_ended_all_the_same() -> None:
    heir = answered().restart()
    heir.ask(Hangup())
    heir.give(FlowLost(CALLER))  # nobody listens on the port that the caller had connected from
    assert [flow for flow, message in sends(heir.effects) if getattr(message, "method", "") == "BYE"] == [
        CALLER,
        LISTENING,
    ]


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
