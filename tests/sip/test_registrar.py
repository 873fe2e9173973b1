"""The registrar's table: which REGISTER makes what of which bindings (§10.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.endpoint import fill_via
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.parser import parse
from bridge.sip.registrar import (
    Binding,
    Change,
    Registered,
    Rules,
    address_of_record,
    alive,
    answer_lines,
    expire,
    register,
    remove_all,
)
from bridge.sip.user_agent import Refused
from tests.sip.test_parser_properties import unhurried
from tests.sip.wire import wire

NOW = 1_000_000.0
FLOW = Flow("udp", "udp:5060", "192.0.2.10", 5060)
RULES = Rules(expires_default_s=3600, expires_min_s=60, expires_max_s=7200, bindings_max=3)
DESK = "<sip:alice@192.0.2.10>"
POCKET = "<sip:alice@192.0.2.11:5080;transport=udp>"


def asked(*contacts: str, call_id: str = "one", cseq: int = 1, flow: Flow = FLOW, **headers: str) -> Request:
    """A REGISTER with these contacts."""
    changes: dict[str, str | None] = {name.replace("_", "-"): value for name, value in headers.items()}
    changes |= {"Call-ID": call_id, "CSeq": f"{cseq} REGISTER", "Contact": ", ".join(contacts) or None}
    made = parse(wire("REGISTER sip:example.com SIP/2.0", changes))
    assert isinstance(made, Request)
    fill_via(made, flow)
    return made


def take(request: Request, *bindings: Binding, now: float = NOW, flow: Flow = FLOW, rules: Rules = RULES) -> Registered:
    made = register(request, bindings, flow=flow, node="n1:1", rules=rules, now=now)
    assert isinstance(made, Registered), made
    return made


def refused(request: Request, *bindings: Binding, now: float = NOW, rules: Rules = RULES) -> Refused:
    made = register(request, bindings, flow=FLOW, node="n1:1", rules=rules, now=now)
    assert isinstance(made, Refused), made
    return made


def bound(*contacts: str, **given: object) -> tuple[Binding, ...]:
    return take(asked(*contacts, **given)).bindings  # type: ignore[arg-type]


def kinds(made: Registered) -> list[tuple[str, str]]:
    return [(each.kind, each.binding.contact) for each in made.changes]


def test_a_contact_is_bound_with_all_that_is_known_of_it() -> None:
    made = take(asked(f'{DESK};q=0.5;expires=120;+sip.instance="<urn:uuid:1>";reg-id=2', User_Agent="phone/1", cseq=7))
    binding = Binding(
        contact="sip:alice@192.0.2.10",
        q=0.5,
        expires_at=NOW + 120,
        flow=FLOW,
        node="n1:1",
        call_id="one",
        cseq=7,
        instance="urn:uuid:1",
        reg_id=2,
        user_agent="phone/1",
    )
    assert made == Registered((binding,), (Change("created", binding),))


def test_several_contacts_at_once_and_one_after_the_other() -> None:
    made = take(asked(DESK, POCKET))
    assert kinds(made) == [("created", "sip:alice@192.0.2.10"), ("created", "sip:alice@192.0.2.11:5080;transport=udp")]
    second = take(asked(POCKET, call_id="two"), *bound(DESK))
    assert len(second.bindings) == 2
    assert kinds(second) == [("created", "sip:alice@192.0.2.11:5080;transport=udp")]


def test_a_query_changes_nothing() -> None:
    bindings = bound(DESK, POCKET)
    assert take(asked(), *bindings) == Registered(bindings)


@pytest.mark.parametrize(
    ("contact", "header", "seconds"),
    [
        (DESK, None, 3600),
        (DESK, "300", 300),
        (f"{DESK};expires=200", "300", 200),
        (f"{DESK};expires=100000", None, 7200),
        (DESK, "4294967296", 7200),
        (f"{DESK};expires=soon", "300", 3600),
        (DESK, "-1", 3600),
        (f'{DESK};expires="90"', None, 90),
        (f"{DESK};expires=60", None, 60),
    ],
)
def test_how_long_it_is_bound(contact: str, header: str | None, seconds: int) -> None:
    headers = {} if header is None else {"Expires": header}
    (binding,) = take(asked(contact, **headers)).bindings
    assert binding.expires_at == NOW + seconds


def test_too_short_is_told_how_long_it_must_be() -> None:
    assert refused(asked(f"{DESK};expires=59")) == Refused(423, "Interval Too Brief", (("Min-Expires", "60"),))
    assert refused(asked(DESK, f"{POCKET};expires=1")).status == 423


def test_an_hour_is_never_too_short() -> None:
    rules = replace(RULES, expires_min_s=5000)
    assert take(asked(f"{DESK};expires=3600"), rules=rules).bindings
    assert refused(asked(f"{DESK};expires=3599"), rules=rules).status == 423


def test_the_same_contact_is_refreshed() -> None:
    made = take(asked(DESK, cseq=2), *bound(DESK), now=NOW + 100)
    assert kinds(made) == [("refreshed", "sip:alice@192.0.2.10")]
    assert made.bindings[0].expires_at == NOW + 3700


def test_contacts_are_compared_as_uris() -> None:
    made = take(asked("<sip:%61lice@192.0.2.10;x=1>", call_id="two"), *bound(DESK))
    assert kinds(made) == [("refreshed", "sip:%61lice@192.0.2.10;x=1")]
    other_port = take(asked("<sip:alice@192.0.2.10:5062>", call_id="two"), *bound(DESK))
    assert len(other_port.bindings) == 2


def test_a_phone_that_moved_replaces_what_it_had() -> None:
    here = f'{DESK};+sip.instance="<urn:uuid:1>";reg-id=1'
    there = '<sip:alice@198.51.100.7:40000>;+sip.instance="<urn:uuid:1>";reg-id=1'
    made = take(asked(there, call_id="two"), *bound(here))
    assert kinds(made) == [("refreshed", "sip:alice@198.51.100.7:40000")]
    assert len(made.bindings) == 1
    assert len(take(asked(there.replace("reg-id=1", "reg-id=2"), call_id="two"), *bound(here)).bindings) == 2


def test_a_contact_with_expires_0_is_removed() -> None:
    bindings = bound(DESK, POCKET)
    made = take(asked(f"{DESK};expires=0", cseq=2), *bindings)
    assert kinds(made) == [("removed", "sip:alice@192.0.2.10")]
    assert made.bindings == bindings[1:]
    assert take(asked(f"{DESK};expires=0")) == Registered(())  # what is not there need not be removed


def test_one_contact_may_go_while_another_comes() -> None:
    made = take(asked(f"{DESK};expires=0", POCKET, cseq=2), *bound(DESK))
    assert kinds(made) == [
        ("removed", "sip:alice@192.0.2.10"),
        ("created", "sip:alice@192.0.2.11:5080;transport=udp"),
    ]


def test_a_star_removes_all() -> None:
    made = take(asked("*", cseq=2, Expires="0"), *bound(DESK, POCKET))
    assert made.bindings == ()
    assert [kind for kind, _ in kinds(made)] == ["removed", "removed"]


@pytest.mark.parametrize("headers", [{}, {"Expires": "60"}, {"Expires": "no"}])
def test_a_star_without_expires_0_is_refused(headers: dict[str, str]) -> None:
    assert refused(asked("*", **headers), *bound(DESK)).status == 400


def test_a_star_stands_alone() -> None:
    assert refused(asked("*", DESK, Expires="0")).status == 400


@pytest.mark.parametrize("cseq", [4, 5])
def test_an_older_request_of_the_same_phone_changes_nothing(cseq: int) -> None:
    bindings = bound(DESK, cseq=5)
    for late in (asked(DESK, cseq=cseq), asked(f"{DESK};expires=0", cseq=cseq), asked("*", cseq=cseq, Expires="0")):
        assert refused(late, *bindings) == Refused(500, "Stale CSeq")
    assert take(asked(DESK, cseq=cseq, call_id="another"), *bindings).bindings


def test_all_or_nothing() -> None:
    bindings = bound(DESK, cseq=5)
    assert refused(asked(POCKET, DESK, cseq=4), *bindings).status == 500


def test_the_same_contact_twice_in_one_request() -> None:
    made = take(asked(DESK, f"{DESK};expires=90"))
    assert [(each.contact, each.expires_at) for each in made.bindings] == [("sip:alice@192.0.2.10", NOW + 90)]


def test_more_contacts_than_allowed() -> None:
    three = bound(*(f"<sip:alice@192.0.2.{host}>" for host in (1, 2, 3)))
    assert refused(asked(DESK, cseq=2), *three) == Refused(503, "Too Many Contacts")
    assert refused(asked(*(f"<sip:alice@192.0.2.{host}>" for host in range(1, 5)))).status == 503
    assert take(asked("<sip:alice@192.0.2.2>", cseq=2), *three).bindings  # those that are there may stay
    fewer = replace(RULES, bindings_max=2)
    assert len(take(asked("<sip:alice@192.0.2.2>", cseq=2), *three, rules=fewer).bindings) == 3


@pytest.mark.parametrize("contact", ["<tel:+4912345>", "<mailto:alice@example.com>", "<sip:a@b c>", "sip:", "<sip:a@b"])
def test_what_a_call_cannot_be_sent_to_is_not_bound(contact: str) -> None:
    assert refused(asked(contact)).status == 400


def test_a_binding_keeps_no_more_than_it_needs() -> None:
    assert refused(asked(f"<sip:{'a' * 5000}@b>")) == Refused(400, "Contact Too Long")
    (binding,) = take(asked(DESK, User_Agent="x" * 5000)).bindings
    assert len(binding.user_agent or "") == 256


def test_a_phone_behind_a_nat_is_known_by_where_it_came_from() -> None:
    outside = Flow("udp", "udp:5060", "203.0.113.5", 40123)
    (binding,) = take(asked("<sip:alice@10.0.0.7>", flow=outside), flow=outside).bindings
    assert (binding.received, binding.flow) == ("203.0.113.5:40123", outside)
    (plain,) = bound(DESK)
    assert plain.received is None
    port_only = FLOW._replace(port=40123)
    assert take(asked(DESK, flow=port_only), flow=port_only).bindings[0].received == "192.0.2.10:40123"
    here = FLOW._replace(host="192.0.2.10", port=5060)
    (asks,) = take(asked(DESK, flow=here, Via="SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1;rport"), flow=here).bindings
    assert asks.received is None  # whoever asks for `rport` gets `received` too, NAT or not


def test_a_path_is_kept_for_who_knows_what_it_is() -> None:
    path = "<sip:p1.example.com;lr>, <sip:p2.example.com;lr>"
    knows = asked(DESK, Path=path, Supported="outbound, path")
    made = take(knows)
    assert made.bindings[0].path == ("<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>")
    assert ("Path", path) in answer_lines(knows, made, now=NOW)
    does_not = asked(DESK, Path=path)
    assert take(does_not).bindings[0].path == ()
    assert all(name != "Path" for name, _ in answer_lines(does_not, take(does_not), now=NOW))


def test_the_answer_lists_all_that_is_alive() -> None:
    request = asked(f'{DESK};q=0.25;+sip.instance="<urn:uuid:1>";reg-id=1;expires=100', POCKET)
    made = take(request)
    assert answer_lines(request, made, now=NOW + 10.4) == [
        ("Contact", "<sip:alice@192.0.2.11:5080;transport=udp>;expires=3590"),
        ("Contact", '<sip:alice@192.0.2.10>;expires=90;q=0.25;+sip.instance="<urn:uuid:1>";reg-id=1'),
        ("Date", "Mon, 12 Jan 1970 13:46:50 GMT"),
    ]
    assert len(answer_lines(request, made, now=NOW + 200)) == 2


@pytest.mark.parametrize(("written", "q"), [("1", 1.0), ("0.7", 0.7), ("0", 0.0), ("2", 1.0), ("x", 1.0), ("nan", 1.0)])
def test_a_preference(written: str, q: float) -> None:
    assert take(asked(f"{DESK};q={written}")).bindings[0].q == q


def test_what_has_expired_is_gone_whoever_notices() -> None:
    bindings = bound(f"{DESK};expires=60", POCKET)
    assert expire(bindings, now=NOW + 59) == Registered(bindings)
    late = expire(bindings, now=NOW + 60)
    assert kinds(late) == [("expired", "sip:alice@192.0.2.10")]
    again = take(asked(DESK, cseq=2), *bindings, now=NOW + 61)
    assert kinds(again) == [("expired", "sip:alice@192.0.2.10"), ("created", "sip:alice@192.0.2.10")]


def test_an_operator_removes_what_is_left() -> None:
    made = remove_all(bound(f"{DESK};expires=60", POCKET), now=NOW + 60)
    assert made.bindings == ()
    assert [kind for kind, _ in kinds(made)] == ["expired", "removed"]


def test_those_alive_the_preferred_ones_first() -> None:
    bindings = bound(f"{DESK};q=0.1", f"{POCKET};q=0.9", "<sip:alice@192.0.2.12>;expires=60")
    assert [each.q for each in alive(bindings, now=NOW)] == [1.0, 0.9, 0.1]
    assert [each.q for each in alive(bindings, now=NOW + 60)] == [0.9, 0.1]


@pytest.mark.parametrize(
    ("uri", "canonical"),
    [
        ("sip:alice@example.com", "sip:alice@example.com"),
        ("sips:%61lice:pw@EXAMPLE.com.:5061;user=phone?a=b", "sip:alice@example.com"),
        ("sip:Alice@[2001:DB8::1]", "sip:Alice@[2001:db8::1]"),
        ("sip:example.com", None),
        ("tel:+491234", None),
        ("nonsense", None),
        (f"sip:{'a' * 240}@example.com", None),
        ("sip:a%20b@example.com", None),
        ("sip:a%0Ab@example.com", None),
        ("sip:a%ff@example.com", None),
        ("sip:%C3%A9@example.com", "sip:é@example.com"),
    ],
)
def test_the_canonical_form_of_an_address(uri: str, canonical: str | None) -> None:
    assert address_of_record(uri) == canonical


texts = st.text(max_size=10)
flows = st.builds(Flow, st.sampled_from(["udp", "tcp", "tls"]), texts, texts, st.integers(1, 65535), st.just(""), texts)
bindings = st.builds(
    Binding,
    contact=texts,
    q=st.floats(0, 1),
    expires_at=st.integers(0, 2**42).map(lambda ms: ms / 1000),
    flow=flows,
    node=texts,
    call_id=texts,
    cseq=st.integers(0, 2**31),
    path=st.lists(texts, max_size=3).map(tuple),
    instance=st.none() | texts,
    reg_id=st.none() | st.integers(0, 100),
    user_agent=st.none() | texts,
    received=st.none() | texts,
)


@unhurried
@given(bindings)
def test_a_binding_survives_as_data(binding: Binding) -> None:
    assert Binding.from_data(binding.to_data() | {"unknown": 1}) == binding
