"""What bad input gets: contract §6, the rows that concern a user agent server, and who is turned away at the door."""

from __future__ import annotations

import pytest

from bridge.engine.effects import Dropped
from bridge.engine.inputs import Drain, HangUpAll, Packet, StoreAway
from bridge.engine.settings import Application, Match
from bridge.sip.flow import Flow, Send
from bridge.sip.message import Response
from tests.engine.world import ANSWER, CALLER, OFFER, World, answered, request, settings


def answer_to(message: str) -> tuple[Response, World]:
    """The one answer a message gets, which makes no call."""
    world = World()
    world.packet(message)
    assert world.commits == []
    ((_, answer),) = world.sent
    assert isinstance(answer, Response)
    return answer, world


def dropped(world: World) -> list[str]:
    return [effect.reason for effect in world.effects if isinstance(effect, Dropped)]


# Bytes


@pytest.mark.parametrize("data", [b"hello", b"\xff\xfe\x00\x01", b"GET / HTTP/1.1\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n"])
def test_what_is_no_sip_request_is_dropped_and_counted(data: bytes) -> None:
    world = World()
    world.packet(data)
    assert world.sent == []
    assert dropped(world) == ["malformed"]


def test_a_ping_gets_its_pong() -> None:
    world = World()
    assert world.node.give(Packet(b"\r\n\r\n", CALLER), now=world.now) == [Send(CALLER, b"\r\n")]
    assert world.node.give(Packet(b"\r\n", CALLER), now=world.now) == []


@pytest.mark.parametrize(
    ("written", "instead", "phrase"),
    [
        ("CSeq: 1 INVITE", "CSeq: 1 BYE", "CSeq Method Mismatch"),
        ("Max-Forwards: 70", "Max-Forwards: many", "Malformed Max-Forwards"),
        ("To: <", "To: <<", "Malformed To"),
        ("Content-Length: ", "Content-Length: 99", "Content-Length Exceeds Body"),
        ("sip:100@192.0.2.10 SIP/2.0", "not-a-uri SIP/2.0", "Malformed Request-URI"),
    ],
)
def test_what_cannot_be_parsed_but_answered_gets_400_and_why(written: str, instead: str, phrase: str) -> None:
    world = World()
    text = request("INVITE", sdp=OFFER)
    assert written in text
    (answer, said) = world.node.give(Packet(text.replace(written, instead, 1).encode(), CALLER), now=world.now)
    assert isinstance(answer, Send)
    assert answer.data.startswith(f"SIP/2.0 400 {phrase}\r\n".encode())
    assert said == Dropped("malformed", CALLER, phrase)


def test_a_malformed_ack_gets_nothing() -> None:
    world = World()
    world.packet(request("ACK").replace("CSeq: 1 ACK", "CSeq: 1 BYE"))
    assert world.sent == []


@pytest.mark.parametrize("missing", ["Via", "Call-ID", "CSeq"])
def test_what_cannot_even_be_answered_is_dropped(missing: str) -> None:
    world = World()
    lines = request("INVITE", sdp=OFFER).split("\r\n")
    world.packet("\r\n".join(line for line in lines if not line.startswith(missing)))
    assert world.sent == []
    assert dropped(world) == ["malformed"]


# §8.2


def test_an_unknown_method_gets_405() -> None:
    answer, _ = answer_to(request("SUBSCRIBE"))
    assert (answer.status, answer.headers.get("Allow")) == (
        405,
        "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY, REFER, REGISTER",
    )


def test_an_unknown_extension_gets_420() -> None:
    answer, _ = answer_to(request("INVITE", sdp=OFFER, extra="Require: 100rel, precondition, gruu\r\n"))
    assert (answer.status, answer.headers.get("Unsupported")) == (420, "precondition, gruu")


def test_an_unknown_body_gets_415() -> None:
    answer, _ = answer_to(request("INVITE", sdp="<xml/>", kind="application/xml"))
    assert (answer.status, answer.headers.get("Accept")) == (415, "application/sdp")


def test_an_unknown_scheme_gets_416() -> None:
    answer, _ = answer_to(request("INVITE", sdp=OFFER).replace("INVITE sip:", "INVITE mailto:", 1))
    assert answer.status == 416


def test_an_invite_without_a_contact_gets_400() -> None:
    text = request("INVITE", sdp=OFFER)
    answer, _ = answer_to("\r\n".join(line for line in text.split("\r\n") if not line.startswith("Contact")))
    assert answer.status == 400


def test_the_same_request_on_two_ways_gets_482_on_the_second() -> None:
    world = World()
    world.invite()
    world.invite(branch="z9hG4bK-another-way")
    assert [message.status for message in world.responses()] == [100, 482]
    assert len(world.commits) == 1


def test_max_forwards_0_is_for_us_all_the_same() -> None:
    world = World()
    world.packet(request("INVITE", sdp=OFFER).replace("Max-Forwards: 70", "Max-Forwards: 0"))
    assert world.statuses == [100]


def test_options_outside_a_dialog() -> None:
    answer, _ = answer_to(request("OPTIONS"))
    assert answer.status == 200
    assert (
        answer.headers.get("Allow") == "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY, REFER, REGISTER"
    )
    assert answer.headers.get("Accept") == "application/sdp"


def test_options_within_a_dialog() -> None:
    world = answered()
    world.within("OPTIONS")
    assert len(world.responses(200, "OPTIONS")) == 1
    assert world.call.state == "answered"


def test_an_invite_for_nobody_gets_404() -> None:
    config = settings()
    (application,) = config.applications
    only = Application(application.name, application.plan, application.endpoints, Match(users=frozenset({"200"})))
    world = World(settings(applications=(only,)))
    world.invite()
    assert world.statuses == [404]
    world.invite("c2", user="200")
    assert world.statuses == [404, 100]


def test_responses_go_where_the_request_came_from() -> None:
    world = World()
    nat = Flow("udp", "udp:5060", "198.51.100.9", 33333)
    text = request("OPTIONS").replace(";branch", ";rport;branch")
    (effect,) = world.packet(text, nat)
    assert isinstance(effect, Send)
    assert effect.flow == nat
    assert world.last(200, "OPTIONS").via.param("received") == "198.51.100.9"
    assert world.last(200, "OPTIONS").via.param("rport") == "33333"


# Within a dialog that is none


def test_a_stray_bye_gets_481() -> None:
    answer, _ = answer_to(request("BYE", to_tag="whatever"))
    assert answer.status == 481


def test_a_bye_without_a_tag_gets_481() -> None:
    answer, _ = answer_to(request("BYE"))
    assert answer.status == 481


@pytest.mark.parametrize("method", ["BYE", "INVITE", "OPTIONS"])
@pytest.mark.parametrize("changed", [{"to_tag": "x"}, {"from_tag": "somebody"}, {"name": "another"}])
def test_a_request_that_does_not_quite_fit_its_dialog_gets_481(method: str, changed: dict[str, str]) -> None:
    world = answered()
    written = {"name": "c1", "to_tag": world.tag()} | changed
    name = written.pop("name")
    world.packet(request(method, name, sequence=7, sdp=OFFER if method == "INVITE" else None, **written))
    assert len(world.responses(481, method)) == 1
    assert world.call.state == "answered"


def test_a_forged_tag_gets_481_and_touches_nothing() -> None:
    world = answered()
    tag = world.tag()
    forged = tag[:-1] + ("a" if tag[-1] != "a" else "b")
    world.within("BYE", to_tag=forged)
    assert len(world.responses(481, "BYE")) == 1
    assert world.call.state == "answered"


def test_a_stray_ack_is_dropped() -> None:
    world = World()
    world.packet(request("ACK", to_tag="whatever"))
    assert world.sent == []
    assert dropped(world) == ["stray_ack"]


def test_a_stray_response_is_dropped() -> None:
    world = World()
    world.packet(request("BYE").replace("BYE sip:100@192.0.2.10 SIP/2.0", "SIP/2.0 200 OK", 1))
    assert world.sent == []
    assert dropped(world) == ["stray_response"]


def test_a_cseq_that_is_too_low_gets_500() -> None:
    world = answered()
    world.reinvite(sequence=5)
    world.ack(sequence=5)
    world.bye(sequence=4)
    assert len(world.responses(500, "BYE")) == 1
    assert world.call.state == "answered"


def test_after_the_end_there_is_no_dialog_left() -> None:
    world = answered()
    world.accepting = False
    world.bye(sequence=2)
    world.bye(sequence=3)
    world.reinvite(sequence=4)
    assert len(world.responses(481, "BYE")) == 1
    assert len(world.responses(481, sequence=4)) == 1


def test_a_very_late_copy_of_the_invite_of_a_living_call() -> None:
    world = answered()
    world.advance(60.0)
    world.invite()
    assert world.statuses == [100, 200]
    assert dropped(world) == ["late_invite"]
    assert world.node.transactions() == 0
    assert world.call.state == "answered"


# At the door


def test_the_service_has_room_for_so_many_calls() -> None:
    world = World(settings(max_calls=1))
    world.invite("c1")
    world.invite("c2")
    assert world.last(503).headers.get("Retry-After") == "10"
    world.cancel("c1")
    world.invite("c3")
    assert world.statuses[-1] == 100


def test_ended_calls_whose_events_wait_take_nobodys_place() -> None:
    world = World(settings(max_calls=1))
    world.accepting = False
    answered(world)
    world.bye()
    assert (world.node.live, world.node.carried) == (0, 1)
    world.invite("c2")
    assert world.statuses[-1] == 200


def test_a_draining_node_takes_nothing_new_and_carries_on_what_it_has() -> None:
    world = answered()
    world.give(Drain())
    assert world.node.draining
    world.invite("c2")
    assert world.last(503).headers.get("Retry-After") == "10"
    world.bye()
    assert world.ended["reason"] == "hangup"


def test_when_the_service_stops_every_call_ends() -> None:
    world = answered()
    world.reply = ()
    world.invite("c2")
    world.give(Drain())
    world.give(HangUpAll())
    (bye,) = world.requests("BYE")
    assert bye.headers.get("Reason") == 'SIP;cause=503;text="drained"'
    assert world.statuses[-1] == 503
    assert world.last(503).headers.get("Retry-After") == "10"
    assert (world.ended["by"], world.ended["reason"]) == ("node", "drained")
    world.advance(100.0)
    assert world.leftovers() == {}


def test_a_stop_waits_for_the_ack_before_its_bye() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    world.give(HangUpAll())
    assert world.requests("BYE") == []
    world.ack()
    assert len(world.requests("BYE")) == 1
    assert world.ended["reason"] == "drained"


def test_a_stop_while_the_store_is_away() -> None:
    world = answered()
    world.committing = False
    world.give(StoreAway())
    world.give(HangUpAll())
    assert len(world.requests("BYE")) == 1
    assert world.node.carried == 1
    world.commit_all()
    assert world.node.carried == 0


def test_a_transaction_table_that_is_full_answers_503_and_remembers_nothing() -> None:
    world = World()
    world.node._holdings.endpoint._limit = 1
    world.invite("c1")
    world.invite("c2")
    assert [message.status for message in world.responses()] == [100, 503]
    assert "transactions_full" in dropped(world)
    assert world.packet(request("ACK", "c2"), CALLER)  # dropped as well, and said so
