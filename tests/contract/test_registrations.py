"""Registrations and users: what is rendered is what is published, and what an application may reply."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bridge.contract.examples import SCHEMAS
from bridge.contract.registered import (
    binding_resource,
    registration_resource,
    render_registration,
    user_resource,
)
from bridge.contract.registrations import (
    ANY_REGISTRATION_EVENT,
    REGISTRATION_EVENTS,
    REGISTRATION_TYPES,
    Binding,
    Registration,
    User,
)
from bridge.contract.render import render
from bridge.contract.replies import read_registration_reply
from bridge.engine import registrations as engine
from bridge.engine.inputs import InvalidReply
from bridge.sip import registrar
from bridge.sip.digest import make_ha1
from bridge.sip.flow import Flow
from bridge.sip.registrar import AddressOfRecord
from tests.contract.samples import EVENT, NOW

ALICE = AddressOfRecord("sip:alice@example.com")
PLAIN = registrar.Binding(
    "sip:alice@192.0.2.7", 1.0, NOW + 60, Flow("udp", "udp:0.0.0.0:5060", "192.0.2.7", 5060), "n1:1", "c", 1
)
FULL = replace(
    PLAIN,
    q=0.5,
    flow=Flow("tcp", "tcp:0.0.0.0:5060", "2001:db8::7", 5060),
    path=("<sip:p1.example.com;lr>",),
    instance="urn:uuid:1",
    reg_id=1,
    user_agent="phone \udcff",  # bytes that are no UTF-8
    received="[2001:db8::7]:5060",
)
EVENTS: list[engine.RegistrationEvent] = [
    engine.RegistrationRequested("alice", (PLAIN, FULL), PLAIN.flow, "phone/1"),
    engine.BindingChanged("created", "alice", PLAIN),
    engine.BindingChanged("refreshed", "alice", FULL),
    engine.BindingChanged("removed", "alice", PLAIN, "remote"),
    engine.BindingChanged("removed", None, PLAIN, "local"),
    engine.BindingChanged("expired", None, PLAIN),
    engine.RegistrationRejected("alice", 403, "Forbidden", FULL.flow, None),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_every_event_is_of_its_published_shape(event: engine.RegistrationEvent) -> None:
    body = render_registration(EVENT, event, ALICE, "front-desk", 3, now=NOW)
    ANY_REGISTRATION_EVENT.validate_json(body)
    read = json.loads(body)
    assert (read["id"], read["type"], read["timestamp"]) == (EVENT, event.type, "2026-11-22T09:00:00.250Z")
    assert (read["data"]["stream"], read["data"]["sequence"]) == ("aor:sip:alice@example.com", 3)


def test_no_event_is_forgotten() -> None:
    assert {event.type for event in EVENTS} == set(REGISTRATION_TYPES)
    assert len(REGISTRATION_EVENTS) == len(REGISTRATION_TYPES)


@pytest.mark.parametrize("binding", [PLAIN, FULL])
def test_a_binding_is_of_its_published_shape(binding: registrar.Binding) -> None:
    Binding.model_validate_json(render(binding_resource(binding)))


def test_a_registration_shows_what_is_alive_the_preferred_first() -> None:
    resource = registration_resource(ALICE, (FULL, PLAIN, replace(PLAIN, expires_at=NOW)), now=NOW)
    assert resource is not None
    Registration.model_validate_json(render(resource))
    assert [each["q"] for each in resource["bindings"]] == [1.0, 0.5]
    assert resource["bindings"][1]["source"]["address"] == "[2001:db8::7]:5060"
    assert registration_resource(ALICE, (PLAIN,), now=NOW + 60) is None


def test_a_user_shows_no_secret() -> None:
    user = engine.User("alice", make_ha1("alice", "r", "secret"), ALICE)
    resource = user_resource(user, "api")
    User.model_validate_json(render(resource))
    assert set(resource) == {"username", "aor", "source"}


@pytest.mark.parametrize(
    ("body", "decision"),
    [
        (b"", None),
        (b"  ", None),
        (b"{}", None),
        (b'{"actions": []}', None),
        (b'{"actions": [{"action": "accept"}]}', engine.AcceptRegistration()),
        (b'{"actions": [{"action": "accept", "expires_s": 60}]}', engine.AcceptRegistration(expires_s=60)),
        (b'{"actions": [{"action": "reject"}]}', engine.RejectRegistration(code=403)),
        (
            b'{"actions": [{"action": "reject", "code": 404, "reason": "Gone"}]}',
            engine.RejectRegistration(code=404, reason="Gone"),
        ),
        (b'{"actions": [{"action": "challenge"}]}', engine.ChallengeRegistration()),
    ],
)
def test_what_an_application_may_reply(body: bytes, decision: engine.RegistrationDecision | None) -> None:
    assert read_registration_reply(body, "application/json") == (() if decision is None else (decision,))


@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        (b"<html>", None, "the reply is no JSON"),
        (b'{"actions": [{"action": "answer"}]}', "actions.0.action", 'unknown action "answer"'),
        (b'{"actions": [{"action": "reject", "code": 200}]}', "actions.0.code", "greater than or equal to 400"),
        (b'{"actions": [{"action": "accept"}, {"action": "accept"}]}', "actions", "at most 1"),
        (b'{"actions": [{"action": "accept", "expires_s": 0}]}', "actions.0.expires_s", "greater than or equal to 1"),
        (b'{"actions": [{"action": "reject", "reason": "a\\nb"}]}', "actions.0.reason", ""),
    ],
)
def test_what_it_may_not(body: bytes, field: str | None, detail: str) -> None:
    reply = read_registration_reply(body, "application/json")
    assert isinstance(reply, InvalidReply)
    assert reply.field == field
    assert detail in reply.detail


def test_the_example_of_a_decision_is_one() -> None:
    given: list[Any] = SCHEMAS["RegistrationReply"]
    for example in given:
        assert not isinstance(read_registration_reply(json.dumps(example).encode(), None), InvalidReply)
