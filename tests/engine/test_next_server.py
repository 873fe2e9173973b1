"""A name leads to several servers: when the next one is asked, how, and who is asked first the next time (RFC 3263 §4.3)."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Credentials, Hangup, Target
from bridge.calls.facts import CallId
from bridge.engine.effects import Resolve, Send
from bridge.engine.inputs import FlowLost, Resolved
from bridge.engine.outages import LONGEST_S, SERVERS_MOST, SILENT_S, Outages
from bridge.engine.seeking import PATIENCE_T1
from bridge.engine.settings import Listener
from bridge.sip.flow import Flow
from bridge.sip.locating import Hop, Wanted
from bridge.sip.message import Response
from bridge.sip.parser import parse
from bridge.sip.uri import SipUri, parse_uri
from tests.engine.callee import Callee
from tests.engine.test_originating import ended, originate
from tests.engine.world import IDENTITY, World, settings

NAME = "sip:bob@trunk.example"
PATIENCE_S = PATIENCE_T1 * 0.5
LISTENERS = {
    **settings().listeners,
    "tcp:5060": Listener("tcp:5060", "192.0.2.10:5060", IDENTITY, "tcp"),
    "tls:5061": Listener("tls:5061", "192.0.2.10:5061", IDENTITY, "tls"),
}


def answer_dns(world: World, *hops: Hop) -> Resolve:
    asked = [effect for effect in world.effects if isinstance(effect, Resolve)][-1]
    world.give(Resolved(asked.reader, hops))
    return asked


def udp(*callees: Callee) -> tuple[Hop, ...]:
    return tuple(Hop("udp", each.host, 5060) for each in callees)


def calling_a_name(count: int = 2, target: Target | None = None) -> tuple[World, list[Callee]]:
    world = World(settings(listeners=LISTENERS))
    servers = [Callee(world, number) for number in range(2, 2 + count)]
    originate(world, target or Target(NAME))
    answer_dns(world, *udp(*servers))
    return world, servers


def over(world: World) -> None:
    world.advance(64.0)
    assert world.leftovers() == {}


def is_the_same(one: Callee, other: Callee) -> bool:
    """But for the branch: the same request in a transaction of its own."""
    assert one.invite.via.branch != other.invite.via.branch
    return one.invite.encode().replace(
        (one.invite.via.branch or "").encode(), (other.invite.via.branch or "").encode()
    ) == (other.invite.encode())


def test_a_silent_server() -> None:
    world, (first, second) = calling_a_name()
    world.advance(PATIENCE_S - 0.1)
    assert len(first.got) == 4
    assert second.got == []
    world.advance(0.2)
    assert is_the_same(first, second)
    assert len(first.got) == 4
    second.answer(180)
    second.answer(200)
    assert world.types == ["call.initiated", "call.ringing", "call.answered"]
    assert len(world.told("call.answered")["call"]["attempts"]) == 1
    world.ask(Hangup())
    assert second.methods == ["INVITE", "ACK", "BYE"]
    over(world)


def test_the_last_one_has_all_the_time_there_is() -> None:
    world, (first, second) = calling_a_name()
    world.advance(PATIENCE_S + 31.5)
    assert "call.attempt_failed" not in world.types
    world.advance(1.0)
    assert ended(world) == {"by": "network", "reason": "unreachable", "sip_code": 408}
    assert world.types == ["call.initiated", "call.attempt_failed", "call.ended"]
    assert (first.methods, second.methods) == (["INVITE"], ["INVITE"])
    over(world)


def test_who_is_trying_is_waited_for() -> None:
    world, (first, second) = calling_a_name()
    first.answer(100)
    world.advance(30.0)
    assert second.got == []
    first.answer(200)
    assert "call.answered" in world.types
    world.ask(Hangup())
    over(world)


@pytest.mark.parametrize("provisional", [None, 100, 180])
def test_an_overloaded_server(provisional: int | None) -> None:
    world, (first, second) = calling_a_name()
    if provisional is not None:
        first.answer(provisional)
    first.answer(503)
    assert first.methods == ["INVITE", "ACK"]
    assert is_the_same(first, second)
    second.answer(200)
    assert world.types[-1] == "call.answered"
    world.ask(Hangup())
    over(world)


@pytest.mark.parametrize("status", [404, 486, 500, 504, 600])
def test_another_answer_is_an_answer(status: int) -> None:
    world, (first, second) = calling_a_name()
    first.answer(status)
    assert second.got == []
    assert world.ended["sip_code"] == status
    over(world)


def test_all_are_overloaded() -> None:
    world, servers = calling_a_name(3)
    for each in servers:
        each.answer(503)
    assert (world.ended["by"], world.ended["sip_code"]) == ("remote", 503)
    assert [len(each.requests("INVITE")) for each in servers] == [1, 1, 1]
    assert world.types.count("call.attempt_failed") == 1
    over(world)


def test_a_connection_that_is_refused() -> None:
    world = World(settings(listeners=LISTENERS))
    originate(world, Target(NAME))
    first, second = Callee(world, 2, transport="tcp"), Callee(world, 3)
    answer_dns(world, Hop("tcp", first.host, 5060), *udp(second))
    world.give(FlowLost(Flow("tcp", "tcp:5060", first.host, 5060)))
    assert second.invite.via.transport.upper() == "UDP"
    assert (second.invite.call_id, second.invite.cseq) == (first.invite.call_id, first.invite.cseq)
    second.answer(200)
    assert world.types[-1] == "call.answered"
    world.ask(Hangup())
    over(world)


def test_over_tls_each_has_to_be_the_host_of_the_uri() -> None:
    """Not what SRV has made of it: anybody might have (RFC 5922 §4)."""
    world = World(settings(listeners=LISTENERS))
    originate(world, Target("sips:bob@trunk.example"))
    asked = answer_dns(world, Hop("tls", "192.0.2.2", 5061), Hop("tls", "192.0.2.3", 5071))
    assert asked.wanted == Wanted("trunk.example", secure=True)
    world.give(FlowLost(Flow("tls", "tls:5061", "192.0.2.2", 5061, name="trunk.example"), "TLS Failed"))
    ways = [each.flow for each in world.effects if isinstance(each, Send)]
    assert ways == [
        Flow("tls", "tls:5061", "192.0.2.2", 5061, name="trunk.example"),
        Flow("tls", "tls:5061", "192.0.2.3", 5071, name="trunk.example"),
    ]


def test_credentials_at_the_second_one() -> None:
    world, (first, second) = calling_a_name(target=Target(NAME, Credentials("us", "secret")))
    first.answer(503)
    second.answer(401, extra='WWW-Authenticate: Digest realm="r", nonce="n"\r\n')
    invites = second.requests("INVITE")
    assert [each.cseq.number for each in invites] == [1, 2]
    assert invites[1].headers.get("Authorization") is not None
    second.answer(200)
    assert world.types[-1] == "call.answered"
    world.ask(Hangup())
    over(world)


def test_a_cancel_goes_to_who_has_been_asked_last() -> None:
    world, (first, second) = calling_a_name()
    first.answer(503)
    second.answer(180)
    world.ask(Hangup())
    assert (first.methods, second.methods) == (["INVITE", "ACK"], ["INVITE", "CANCEL"])
    cancel = second.requests("CANCEL")[-1]
    assert cancel.via.branch == second.invite.via.branch
    second.answer(487)
    over(world)


def test_the_next_process_knows_who_is_left() -> None:
    world, (first, second, third) = calling_a_name(3)
    first.answer(503)
    world.clock.at += 1.0
    heir = world.restart()
    for each in (first, second, third):
        each.world = heir
    assert len({each.encode() for each in second.got}) == 1
    assert len(second.got) == 2
    second.answer(503)
    assert is_the_same(second, third)
    third.answer(200)
    assert heir.types[-1] == "call.answered"
    heir.ask(Hangup())
    over(heir)


# The next time


def call_again(world: World, *hops: Hop) -> None:
    originate(world, Target(NAME), call=CallId("call_" + "b" * 24), request=8)
    answer_dns(world, *hops)


@pytest.mark.parametrize(("wait", "after", "is_first"), [("60", 59.0, False), ("60 (soon);duration=9", 61.0, True)])
def test_retry_after_is_kept_to(wait: str, after: float, is_first: bool) -> None:
    world, (first, second) = calling_a_name()
    first.answer(503, extra=f"Retry-After: {wait}\r\n")
    second.answer(200)
    world.ask(Hangup())
    world.advance(after)
    asked = len(first.requests("INVITE"))
    call_again(world, *udp(first, second))
    assert (len(first.requests("INVITE")) > asked) is is_first


def test_without_retry_after_it_counts_for_one_call() -> None:
    world, (first, second) = calling_a_name()
    first.answer(503)
    second.answer(486)
    call_again(world, *udp(first, second))
    assert len(first.requests("INVITE")) == 2


def test_nobody_waits_for_the_silent_one_again() -> None:
    world, (first, second) = calling_a_name()
    world.advance(PATIENCE_S + 0.1)
    second.answer(486)
    call_again(world, *udp(first, second))
    assert len(second.requests("INVITE")) == 2


def test_where_nobody_else_is_even_that_one_is_asked() -> None:
    world, (first, _) = calling_a_name()
    world.advance(PATIENCE_S + 0.1)
    call_again(world, *udp(first))
    assert len(first.requests("INVITE")) == 2


def test_outages_are_bounded() -> None:
    outages = Outages()
    one, other = Hop("udp", "192.0.2.1", 5060), Hop("udp", "192.0.2.2", 5060)
    flow = Flow("udp", "udp:5060", *one[1:])
    said = parse(
        b"SIP/2.0 503 X\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: 1\r\n"
        b"CSeq: 1 INVITE\r\nRetry-After: 999999999\r\nContent-Length: 0\r\n\r\n"
    )
    assert isinstance(said, Response)
    outages.overloaded(flow, said, now=0.0)
    assert outages.in_turn([one, other], now=LONGEST_S - 1) == [other, one]
    assert outages.in_turn([one, other], now=LONGEST_S) == [one, other]
    outages.silent(flow, now=0.0)
    assert outages.in_turn([one, other], now=SILENT_S - 1) == [other, one]
    for number in range(SERVERS_MOST):
        outages.silent(flow._replace(port=number), now=0.0)
    assert outages.in_turn([one, other], now=1.0) == [one, other]


# An outbound proxy


def through(proxy: str) -> World:
    uri = parse_uri(proxy)
    assert isinstance(uri, SipUri)
    return World(settings(listeners=LISTENERS, outbound_proxy=uri))


def test_all_go_through_the_proxy() -> None:
    world = through("sip:192.0.2.2;lr")
    proxy = Callee(world)
    originate(world, Target("sip:bob@elsewhere.example;transport=tcp"))
    assert not [effect for effect in world.effects if isinstance(effect, Resolve)]
    assert proxy.invite.uri == "sip:bob@elsewhere.example;transport=tcp"
    assert proxy.invite.headers.lines("Route") == ["<sip:192.0.2.2;lr>"]
    proxy.answer(200, extra="Record-Route: <sip:192.0.2.2;lr>\r\n")
    world.ask(Hangup())
    assert proxy.methods == ["INVITE", "ACK", "BYE"]
    over(world)


def test_a_proxy_is_looked_up_like_everybody() -> None:
    world = through("sip:proxy.example;transport=tcp;lr")
    originate(world, Target("sip:bob@192.0.2.9"))
    asked = answer_dns(world, Hop("tcp", "192.0.2.2", 5060), Hop("tcp", "192.0.2.3", 5060))
    assert asked.wanted == Wanted("proxy.example", None, "tcp")
    world.give(FlowLost(Flow("tcp", "tcp:5060", "192.0.2.2", 5060)))
    sent = [each for each in world.effects if isinstance(each, Send)]
    assert [each.flow.host for each in sent] == ["192.0.2.2", "192.0.2.3"]
    assert all(b"\r\nRoute: <sip:proxy.example;transport=tcp;lr>\r\n" in each.data for each in sent)


def test_who_asks_for_secrecy_reaches_the_proxy_by_tls() -> None:
    world = through("sip:proxy.example;lr")
    originate(world, Target("sips:bob@elsewhere.example"))
    assert answer_dns(world).wanted == Wanted("proxy.example", secure=True)
