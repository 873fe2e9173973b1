"""MESSAGE, SUBSCRIBE and whatever else there is, for whom we serve: on its way to the phone that is bound, and its answer back."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from bridge.engine.admission import AdmissionLimits
from bridge.engine.registrations import User
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response
from tests.engine.callee import Callee
from tests.engine.test_locating import registered
from tests.engine.test_registering import USERS, Phones, registrar

ALICE = "sip:alice@example.com"
TRUSTED = AdmissionLimits(trusted=(ip_network("192.0.2.0/24"),))


def known(*numbers: int) -> tuple[Phones, list[Callee]]:
    """Alice's phones, and a sender from a network that is trusted."""
    return registered(*numbers, admission=TRUSTED)


def message(
    method: str = "MESSAGE",
    uri: str = ALICE,
    *,
    sequence: int = 1,
    name: str = "m1",
    from_: str = "sip:stranger@elsewhere.example",
    hops: int = 70,
    to_tag: str = "",
    extra: str = "",
) -> str:
    tag = f";tag={to_tag}" if to_tag else ""
    return (
        f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK-{name}-{sequence}-{method}\r\n"
        f"Max-Forwards: {hops}\r\nFrom: <{from_}>;tag=f\r\nTo: <{ALICE}>{tag}\r\nCall-ID: {name}@192.0.2.1\r\n"
        f"CSeq: {sequence} {method}\r\nContact: <sip:stranger@192.0.2.1:5062>\r\n{extra}"
        "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nHello"
    )


def answers(world: Phones, method: str = "MESSAGE") -> list[int]:
    """What the sender has been told."""
    return [each.status for _, each in world.sent if isinstance(each, Response) and each.cseq.method == method]


def answer(phone: Callee, request: Request, status: int = 200) -> None:
    phone.world.packet(phone._response(request, status), Flow("udp", "udp:5060", phone.host, 5060))


@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "PUBLISH", "OPTIONS", "INFO", "DANCE"])
def test_it_reaches_the_phone_and_its_answer_comes_back(method: str) -> None:
    world, (phone,) = known(2)
    world.packet(message(method))
    (got,) = phone.requests(method)
    assert got.uri == "sip:alice@10.0.0.2:5062"
    assert (got.body, got.headers.get("Max-Forwards")) == (b"Hello", "69")
    assert answers(world, method) == []
    answer(phone, got, 202)
    assert answers(world, method) == [202]
    world.advance(33.0)
    assert world.leftovers() == {}


def test_a_repetition_is_the_same_request() -> None:
    world, (phone,) = known(2)
    world.packet(message())
    world.packet(message())
    first, second = phone.got
    assert first.encode() == second.encode()


def test_the_preferred_phone_gets_it() -> None:
    world = Phones(admission=TRUSTED)
    for number, q in ((2, 0.2), (3, 0.9)):
        flow = Flow("udp", "udp:5060", f"192.0.2.{number}", 5060)
        world.register(f"<sip:alice@10.0.0.{number}:5062>;q={q}", name=f"r{number}", flow=flow)
    desk, mobile = Callee(world, 2), Callee(world, 3)
    world.packet(message())
    assert (len(desk.got), len(mobile.got)) == (0, 1)


def test_a_subscription_finds_its_way_both_ways() -> None:
    world, (phone,) = known(2)
    world.packet(message("SUBSCRIBE"))
    (got,) = phone.requests("SUBSCRIBE")
    route = got.headers.get("Record-Route") or ""
    assert "lr" in route
    answer(phone, got)
    notify = (
        f"NOTIFY sip:stranger@192.0.2.1:5062 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK-n\r\nRoute: {route}\r\n"
        f"Max-Forwards: 70\r\nFrom: <{ALICE}>;tag=b1\r\nTo: <sip:stranger@elsewhere.example>;tag=f\r\nCall-ID: m1@192.0.2.1\r\n"
        "CSeq: 1 NOTIFY\r\nEvent: presence\r\nSubscription-State: active\r\nContact: <sip:alice@192.0.2.2:5060>\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    world.packet(notify, Flow("udp", "udp:5060", phone.host, 5060))
    passed = [each for _, each in world.sent if isinstance(each, Request) and each.method == "NOTIFY"]
    assert [each.uri for each in passed] == ["sip:stranger@192.0.2.1:5062"]


@pytest.mark.parametrize(
    ("uri", "status"),
    [(ALICE, 480), ("sip:nobody@example.com", 480), ("sip:alice@elsewhere.example", 405), ("sip:example.com", 405)],
)
def test_who_is_not_there(uri: str, status: int) -> None:
    world = Phones(admission=TRUSTED)
    world.packet(message(uri=uri))
    assert answers(world) == [status]
    world.advance(33.0)
    assert world.leftovers() == {}


def test_one_of_ours_is_told_that_there_is_nobody() -> None:
    world = Phones(admission=TRUSTED)
    asked = message(uri="sip:nobody@example.com", from_=ALICE)
    world.packet(asked)
    challenge = next(each for _, each in world.sent if isinstance(each, Response) and each.status == 401)
    world.packet(message(uri="sip:nobody@example.com", from_=ALICE, sequence=2, extra=world.proof(challenge)))
    assert answers(world) == [401, 404]


def test_who_claims_to_be_one_of_ours_proves_it_first() -> None:
    world, (phone,) = known(2)
    world.packet(message(from_=ALICE))
    assert answers(world) == [401]
    assert phone.got == []


def test_hops_and_circles_are_bounded() -> None:
    world, (phone,) = known(2)
    world.packet(message(hops=0))
    assert answers(world) == [483]
    assert phone.got == []


def test_without_domains_nobody_is_served() -> None:
    world = Phones(admission=TRUSTED, domains=frozenset())
    world.packet(message())
    assert answers(world) == [405]


def test_the_store_is_away() -> None:
    world, (phone,) = known(2)
    world.node._holdings.store_away_since = world.now - 10.0
    world.packet(message())
    assert answers(world) == [503]
    assert phone.got == []


def test_a_request_within_a_dialog_that_is_not_there() -> None:
    world, (phone,) = known(2)
    world.packet(message("INFO", to_tag="x"))
    assert phone.got == []
    assert answers(world, "INFO")[0] in (415, 481)


def test_users_that_have_gone_are_as_those_that_never_were() -> None:
    world = Phones(admission=TRUSTED, registrar=registrar(users={**USERS, "carol": User("carol", USERS["alice"].ha1)}))
    world.packet(message(uri="sip:carol@example.com"))
    assert answers(world) == [480]


@pytest.mark.parametrize("uri", [ALICE, "sip:bob@example.com", "sip:nobody@example.com"])
def test_a_stranger_does_not_find_out_who_is_registered(uri: str) -> None:
    world, (phone,) = registered(2)
    world.packet(message("OPTIONS", uri))
    assert answers(world, "OPTIONS") == [403]
    assert phone.got == []


def test_where_nobody_is_proved_anybody_may_come() -> None:
    world, (phone,) = registered(2, registrar=registrar(authenticate="none"))
    world.packet(message())
    assert phone.requests("MESSAGE")
