"""Where the INVITE for a registered phone goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.engine.reaching import reachable
from bridge.sip.flow import Flow
from bridge.sip.registrar import Binding

NOW, OWNER, LISTENERS = 1000.0, "n1:1", {"udp:5060", "tcp:5060"}
UDP = Flow("udp", "udp:5060", "192.0.2.1", 5062)
TCP = Flow("tcp", "tcp:5060", "192.0.2.1", 40000)
PHONE = Binding("sip:alice@192.0.2.9:5070", 1.0, NOW + 60, UDP, OWNER, "c", 1)
THERE = Flow("udp", "udp:5060", "192.0.2.9", 5070)


def hops(*bindings: Binding) -> list[Flow]:
    return [each.flow for each in reachable(bindings, owner=OWNER, listeners=LISTENERS, now=NOW)]


@pytest.mark.parametrize(
    ("binding", "flow"),
    [
        (PHONE, THERE),
        (replace(PHONE, contact="sip:alice@192.0.2.9"), THERE._replace(port=5060)),
        (replace(PHONE, node="n2:1"), THERE),  # UDP leaves from anywhere
        (replace(PHONE, received="192.0.2.1:5062"), UDP),  # behind a NAT
        (replace(PHONE, contact="sip:alice@phone.example"), UDP),  # a name
        (replace(PHONE, contact="sip:alice@[2001:db8::9]"), UDP),  # the other IP version
        (replace(PHONE, path=("<sip:192.0.2.77;lr>",)), UDP._replace(host="192.0.2.77", port=5060)),
        (replace(PHONE, path=("<sip:192.0.2.77:5080;lr>",), received="x"), UDP._replace(host="192.0.2.77", port=5080)),
        (replace(PHONE, path=("<sip:edge.example;lr>",)), UDP),
        (replace(PHONE, path=("nonsense",)), THERE),
        (replace(PHONE, flow=TCP), TCP),
    ],
)
def test_the_next_hop(binding: Binding, flow: Flow) -> None:
    assert hops(binding) == [flow]


@pytest.mark.parametrize(
    "binding",
    [
        replace(PHONE, expires_at=NOW),
        replace(PHONE, flow=TCP, node="n1:0"),  # it died with the process that had it
        replace(PHONE, flow=UDP._replace(listener="udp:gone")),
    ],
)
def test_what_cannot_be_reached_is_not_there(binding: Binding) -> None:
    assert hops(binding) == []


def test_the_preferred_one_comes_first_with_its_route() -> None:
    second = replace(PHONE, q=0.5, path=("<sip:192.0.2.77;lr>",))
    found = reachable((second, PHONE), owner=OWNER, listeners=LISTENERS, now=NOW)
    assert [(each.uri, each.q, each.route) for each in found] == [
        (PHONE.contact, 1.0, ()),
        (PHONE.contact, 0.5, ("<sip:192.0.2.77;lr>",)),
    ]
