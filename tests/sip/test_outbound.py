"""The registrar's half of outbound (RFC 5626 §6): flows by instance and reg-id, and who may have them."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.sip.message import Request
from bridge.sip.parser import parse
from bridge.sip.registrar import answer_lines
from tests.sip.test_registrar import NOW, asked, bound, refused, take
from tests.sip.wire import wire

URI = "<sip:alice@10.0.0.1>"
OUTBOUND = {"Supported": "path, outbound"}


def flow(number: str = "1", *, uri: str = URI, instance: str = "urn:uuid:1", expires: str = "") -> str:
    return f'{uri};+sip.instance="<{instance}>";reg-id={number}{expires}'


def requires(request: Request, **given: Any) -> bool:
    return ("Require", "outbound") in answer_lines(request, take(request), now=NOW)


def test_two_flows_of_one_phone_with_one_uri_are_two_bindings() -> None:
    made = take(asked(flow("2"), call_id="two", **OUTBOUND), *bound(flow("1"), **OUTBOUND))
    assert [(each.contact, each.reg_id) for each in made.bindings] == [
        ("sip:alice@10.0.0.1", 1),
        ("sip:alice@10.0.0.1", 2),
    ]


def test_a_flow_is_replaced_by_instance_and_reg_id_whatever_its_uri() -> None:
    both = take(asked(flow("2"), call_id="two", **OUTBOUND), *bound(flow("1"), **OUTBOUND)).bindings
    made = take(asked(flow("1", uri="<sip:alice@10.9.9.9>"), call_id="three", **OUTBOUND), *both)
    assert [(each.contact, each.reg_id) for each in made.bindings] == [
        ("sip:alice@10.9.9.9", 1),
        ("sip:alice@10.0.0.1", 2),
    ]
    gone = take(asked(flow("2", expires=";expires=0"), call_id="four", **OUTBOUND), *made.bindings)
    assert [each.reg_id for each in gone.bindings] == [1]


def test_another_phone_with_the_same_uri_and_reg_id_is_another_binding() -> None:
    made = take(asked(flow(instance="urn:uuid:2"), call_id="two", **OUTBOUND), *bound(flow(), **OUTBOUND))
    assert [each.instance for each in made.bindings] == ["urn:uuid:1", "urn:uuid:2"]


def test_a_binding_without_flows_becomes_one() -> None:
    made = take(asked(flow(), call_id="two", **OUTBOUND), *bound(URI))
    assert [(each.contact, each.reg_id) for each in made.bindings] == [("sip:alice@10.0.0.1", 1)]


@pytest.mark.parametrize(
    ("contact", "supported", "required"),
    [
        (flow(), "path, outbound", True),
        (flow(), "path", False),
        (URI, "path, outbound", False),
        (f"{URI};reg-id=1", "outbound", False),
        (f'{URI};+sip.instance="<urn:uuid:1>"', "outbound", False),
        (flow("0"), "outbound", False),
        (flow("2147483648"), "outbound", False),
        (flow("one"), "outbound", False),
    ],
)
def test_the_answer_says_whether_outbound_was_used(contact: str, supported: str, required: bool) -> None:
    assert requires(asked(contact, Supported=supported)) is required


def test_one_flow_at_a_time() -> None:
    assert refused(asked(flow("1"), flow("2"), **OUTBOUND)).status == 400
    made = take(
        asked(flow("2"), flow("1", expires=";expires=0"), call_id="two", **OUTBOUND), *bound(flow("1"), **OUTBOUND)
    )
    assert [each.reg_id for each in made.bindings] == [2]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("<sip:edge.example.com;lr;ob>", None),
        ("<sip:core.example.com;lr>, <sip:edge.example.com;lr;ob>", None),
        ("<sip:core.example.com;lr;ob>, <sip:edge.example.com;lr>", 439),
        ("<sip:edge.example.com;lr>", 439),
        (None, 439),
    ],
)
def test_behind_a_proxy_it_is_the_first_hop_that_has_to_keep_the_flow(path: str | None, status: int | None) -> None:
    via = "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1, SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK2"
    changes = {"Via": via, "Path": path, "Contact": flow(), "CSeq": "1 REGISTER", **OUTBOUND}
    request = parse(wire("REGISTER sip:example.com SIP/2.0", changes))
    assert isinstance(request, Request)
    if status is None:
        assert requires(request)
    else:
        assert refused(request).status == status
