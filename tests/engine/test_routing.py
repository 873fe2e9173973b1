"""Which application answers, and which way a request of ours leaves."""

from __future__ import annotations

import pytest

from bridge.calls.call import Plan
from bridge.engine.routing import application_for, next_hop, without_connection
from bridge.engine.settings import Application, Match
from bridge.sip.dialog import Dialog
from bridge.sip.flow import Flow
from bridge.sip.parser import Request, parse
from tests.engine.world import CALLER, request

# Python counts the documentation addresses of RFC 5737 among the private ones, which a NAT would hide.


def application(name: str, *, users: tuple[str, ...] = (), domains: tuple[str, ...] = ()) -> Application:
    return Application(name, Plan(name), (), Match(frozenset(users), frozenset(domains)))


SALES = application("sales", users=("100", "2*"))
PARTNER = application("partner", domains=("partner.example",))
ALL = application("all")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("sip:100@192.0.2.10", "sales"),
        ("sip:2345@192.0.2.10", "sales"),
        ("tel:100", "sales"),
        ("sip:1000@192.0.2.10", "all"),
        ("sip:bob@PARTNER.example", "partner"),
        ("sip:192.0.2.10", "all"),
        ("urn:service:sos", "all"),
    ],
)
def test_the_first_application_that_matches_takes_the_call(uri: str, name: str) -> None:
    found = application_for(uri, (SALES, PARTNER, ALL))
    assert found is not None
    assert found.name == name


def test_a_call_that_nobody_takes() -> None:
    assert application_for("sip:bob@192.0.2.10", (SALES, PARTNER)) is None


@pytest.mark.parametrize(
    ("uri", "taken"),
    [
        ("sip:bob@Ours.example", True),
        ("sip:bob@other.example", False),
        ("tel:100", True),  # it names no host
    ],
)
def test_a_service_with_domains_takes_calls_for_them_alone(uri: str, taken: bool) -> None:
    found = application_for(uri, (ALL,), domains=frozenset({"ours.example"}))
    assert (found is ALL) is taken


CONNECTION = Flow("tcp", "tcp:5060", "192.0.2.1", 40000)


def dialog(*, contact: str = "<sip:caller@9.9.9.7:5070>", extra: str = "", flow: Flow = CALLER) -> Dialog:
    invite = parse(request("INVITE", contact=contact, extra=extra).encode())
    assert isinstance(invite, Request)
    return Dialog.as_server(invite, "our-tag", flow)


def way(made: Dialog, via_host: str = "192.0.2.1") -> tuple[str, int]:
    flow = next_hop(made, via_host=via_host)
    return flow.host, flow.port


def test_a_request_goes_to_the_contact() -> None:
    assert way(dialog()) == ("9.9.9.7", 5070)
    assert way(dialog(contact="<sip:caller@9.9.9.7>")) == ("9.9.9.7", 5060)
    six = Flow("udp", "udp:5060", "2606:4700::1", 5062)
    assert way(dialog(contact="<sip:caller@[2606:4700::7]:5070>", flow=six), "[2606:4700::1]") == ("2606:4700::7", 5070)


def test_a_route_comes_before_the_contact() -> None:
    assert way(dialog(extra="Record-Route: <sip:9.9.9.8;lr>, <sip:9.9.9.9;lr>\r\n")) == ("9.9.9.8", 5060)


@pytest.mark.parametrize(
    "contact",
    [
        "<sip:caller@phone.example>",
        "<tel:+4930123>",
        "<sip:caller@10.0.0.5:5060>",
        "<sip:caller@[2606:4700::7]:5070>",
    ],
)
def test_where_the_contact_leads_nowhere_the_way_back_is_the_way_it_came(contact: str) -> None:
    assert way(dialog(contact=contact)) == ("192.0.2.1", 5062)


def test_a_nat_that_shows_in_the_via_is_answered_through() -> None:
    assert way(dialog(), via_host="10.0.0.5") == ("192.0.2.1", 5062)


def test_a_connection_is_used_again() -> None:
    assert way(dialog(flow=CONNECTION)) == ("192.0.2.1", 40000)


@pytest.mark.parametrize(
    ("made", "port"),
    [
        (dialog(contact="<sip:caller@192.0.2.1:5070;transport=tcp>", flow=CONNECTION), 5070),
        (dialog(contact="<sip:caller@192.0.2.1>", flow=CONNECTION), 5060),
        (dialog(contact="<sip:caller@192.0.2.1:40000>", flow=CONNECTION), None),  # that is the one
        (dialog(contact="<sip:caller@phone.example>", flow=CONNECTION), None),
        (dialog(contact="<sip:caller@192.0.2.1:5070>", flow=CALLER), None),  # nothing to lose
    ],
)
def test_without_it_the_target_is_called(made: Dialog, port: int | None) -> None:
    flow = without_connection(made, via_host="192.0.2.1")
    assert flow == (None if port is None else CONNECTION._replace(port=port))
