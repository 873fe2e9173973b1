"""Where a party is looked for: an address of record of ours is all its contacts, each over the flow that it registered by."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.calls.actions import Target
from bridge.sip.flow import Flow
from tests.engine.callee import Callee
from tests.engine.test_originating import originate
from tests.engine.test_registering import Phones

ALICE = "sip:alice@example.com"


def registered(*numbers: int, **changes: Any) -> tuple[Phones, list[Callee]]:
    """Alice's phones, whose contacts name addresses that nobody reaches: NATs are between."""
    world = Phones(**changes)
    callees = []
    for number in numbers:
        flow = Flow("udp", "udp:5060", f"192.0.2.{number}", 5060)
        world.register(f"<sip:alice@10.0.0.{number}:5062>", name=f"r{number}", flow=flow)
        callees.append(Callee(world, number))
    return world, callees


def test_all_contacts_are_called_over_their_flows() -> None:
    world, (desk, mobile) = registered(2, 3)
    originate(world, Target(ALICE))
    assert desk.invite.uri == "sip:alice@10.0.0.2:5062"
    assert mobile.invite.uri == "sip:alice@10.0.0.3:5062"
    assert desk.invite.to.uri == ALICE
    assert desk.invite.call_id != mobile.invite.call_id
    mobile.answer(180)
    desk.answer(200)
    assert mobile.methods == ["INVITE", "CANCEL"]
    targets = [each["target"] for each in world.told("call.answered")["call"]["attempts"]]
    assert targets == ["sip:alice@10.0.0.2:5062", "sip:alice@10.0.0.3:5062"]


def test_nobody_is_registered() -> None:
    world, _ = registered()
    originate(world, Target(ALICE))
    assert world.ended == {
        "by": "network",
        "reason": "unreachable",
        "sip_code": 480,
        "sip_reason": "Not Registered",
        "q850": None,
    }


def test_what_has_expired_is_not_called() -> None:
    world, (desk,) = registered(2)
    world.advance(4000.0)
    originate(world, Target(ALICE))
    assert desk.got == []
    assert world.ended["sip_code"] == 480


@pytest.mark.parametrize("uri", ["sip:alice@elsewhere.example", "sip:alice@192.0.2.77"])
def test_other_hosts_are_not_ours(uri: str) -> None:
    world, (desk,) = registered(2)
    originate(world, Target(uri))
    assert desk.got == []


def flows_of_one_phone() -> tuple[Phones, list[Callee]]:
    """A phone that has registered by two flows (RFC 5626), the second one last."""
    world = Phones()
    callees = []
    for number in (2, 3):
        contact = f'<sip:alice@10.0.0.1>;+sip.instance="<urn:uuid:1>";reg-id={number}'
        flow = Flow("udp", "udp:5060", f"192.0.2.{number}", 5060)
        answer = world.register(contact, name=f"r{number}", flow=flow, extra="Supported: path, outbound\r\n")
        assert answer.headers.get("Require") == "outbound"
        callees.append(Callee(world, number))
        world.advance(1.0)
    return world, callees


def test_a_phone_with_two_flows_rings_once() -> None:
    world, (first, second) = flows_of_one_phone()
    originate(world, Target(ALICE))
    assert (first.methods, second.methods) == ([], ["INVITE"])
    second.answer(200)
    assert second.methods == ["INVITE", "ACK"]
    assert first.methods == []


@pytest.mark.parametrize("how", ["430", "silence"])
def test_when_one_flow_has_failed_the_other_one_is_tried(how: str) -> None:
    world, (first, second) = flows_of_one_phone()
    originate(world, Target(ALICE))
    if how == "430":
        second.answer(430)
    else:
        world.advance(33.0)
    assert first.methods == ["INVITE"]
    first.answer(200)
    assert first.methods[-1] == "ACK"
    assert len(world.told("call.answered")["call"]["attempts"]) == 2


def test_when_every_flow_has_failed_the_call_ends() -> None:
    world, (first, second) = flows_of_one_phone()
    originate(world, Target(ALICE))
    second.answer(430)
    first.answer(430)
    assert world.ended["sip_code"] == 430
    world.advance(64.0)
    assert world.node.live == 0


def test_a_phone_that_answers_otherwise_is_not_asked_again() -> None:
    world, (first, second) = flows_of_one_phone()
    originate(world, Target(ALICE))
    second.answer(486)
    assert first.methods == []
    assert world.ended["reason"] == "busy"
