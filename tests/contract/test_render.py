"""What the renderer writes is what the models publish."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import pytest

from bridge.calls import events
from bridge.calls.facts import ConversationId, Ended, Media, Party, Source
from bridge.contract.events import ANY_EVENT
from bridge.contract.models import Call, Conversation
from bridge.contract.render import (
    ADDITIONS,
    Json,
    call_resource,
    conversation_resource,
    render,
    render_event,
    timestamp,
)
from tests.contract.samples import (
    ACTION,
    CALL,
    CONVERSATION,
    EVENT,
    EVENTS,
    NOW,
    QUALITY,
    SampleCall,
    ended_call,
    outbound_call,
)

CALLS = {
    "fresh": SampleCall(),
    "never answered": SampleCall(state="ended", ended_at=NOW, ended=Ended("remote", "canceled")),
    "ended": ended_call(),
    "outbound": outbound_call(),
}
HAPPENINGS = [
    pytest.param(event, call, id=f"{event.type} {name}")
    for event in EVENTS.values()
    for name, call in CALLS.items()
    if call.ended or not isinstance(event, events.CallEnded)
]


def rendered(event: events.Event, call: SampleCall, **more: int) -> Json:
    body = render_event(
        EVENT,
        event,
        call,
        sequence=3,
        conversation=CONVERSATION,
        application="front-desk",
        caused_by=ACTION,
        now=NOW,
        **more,
    )
    found: Json = json.loads(body)
    return found


@pytest.mark.parametrize(("event", "call"), HAPPENINGS)
def test_every_event_is_of_its_published_shape(event: events.Event, call: SampleCall) -> None:
    body = rendered(event, call)
    ANY_EVENT.validate_json(json.dumps(body))
    assert body["type"] == event.type
    assert body["id"] == EVENT
    assert body["timestamp"] == "2026-11-22T09:00:00.250Z"
    assert body["data"]["stream"] == body["data"]["call_id"] == body["data"]["call"]["id"] == CALL
    assert body["data"]["caused_by"] == ACTION


def test_no_event_is_forgotten() -> None:
    known = set(get_args(events.Event))
    assert set(EVENTS) == set(ADDITIONS) == known
    published = {choice["const"] for choice in _types(ANY_EVENT.json_schema())}
    assert published == {event.type for event in known}


def _types(schema: Json) -> list[Json]:
    return [
        it["properties"]["type"]
        for it in schema["$defs"].values()
        if "const" in it.get("properties", {}).get("type", {})
    ]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_is_of_its_published_shape(call: SampleCall) -> None:
    Call.model_validate_json(render(call_resource(call)))


def test_the_end_of_a_call_says_why_and_how_it_sounded() -> None:
    data = rendered(EVENTS[events.CallEnded], ended_call())["data"]
    assert data["ended"] == {"by": "remote", "reason": "hangup", "sip_code": 200, "sip_reason": "OK", "q850": 16}
    assert data["quality"]["packets_received"] == QUALITY.packets_received
    assert data["quality"]["jitter_ms"] == 0.123
    assert (data["quality"]["packets_relayed"], data["quality"]["remote_packets_lost"]) == (2900, 4)
    assert (data["quality"]["remote_jitter_ms"], data["quality"]["round_trip_ms"]) == (1.235, None)
    assert (data["duration_s"], data["answered_s"]) == (62.5, 60.0)


def test_an_outbound_call_came_from_nowhere_and_shows_every_attempt() -> None:
    shown = call_resource(outbound_call())
    assert shown["source"] is None
    assert [(each["target"], each["code"]) for each in shown["attempts"]] == [
        ("sip:bob@example.org", 486),
        ("sip:bob@192.0.2.32", None),
    ]


@pytest.mark.parametrize(
    ("kind", "added"),
    [
        (events.CallInitiated, {"targets": ["sip:bob@example.org", "sip:bob@192.0.2.32"]}),
        (events.CallRinging, {"target": "sip:bob@example.org"}),
        (events.CallEarlyMedia, {"target": "sip:bob@example.org"}),
        (
            events.CallAttemptFailed,
            {"target": "sip:bob@example.org", "code": 486, "reason": "Busy Here", "contacts": []},
        ),
        (events.CallProxied, {"code": 200, "reason": "OK", "target": "sip:bob@192.0.2.33"}),
        (
            events.CallRedirected,
            {
                "code": 302,
                "contacts": [{"uri": "sip:bob@192.0.2.33", "q": 0.5}, {"uri": "tel:+4930123456", "q": None}],
            },
        ),
        (events.CallJoined, {"peer_call_id": "call_" + "e" * 24}),
        (events.CallLeft, {"peer_call_id": "call_" + "e" * 24}),
        (events.CallDtmf, {"digit": "#", "duration_ms": 120, "method": "rfc4733"}),
    ],
)
def test_what_an_event_adds_to_the_call(kind: type[events.Event], added: Json) -> None:
    data, bare = rendered(EVENTS[kind], outbound_call())["data"], rendered(events.CallHeld(), outbound_call())["data"]
    assert {name: value for name, value in data.items() if name not in bare} == added


def test_a_call_without_media_ends_without_quality() -> None:
    call = SampleCall(state="ended", ended=Ended("remote", "canceled"), ended_at=NOW)
    assert rendered(EVENTS[events.CallEnded], call)["data"]["quality"] is None
    unquoted = replace(call, media=Media("PCMU/8000", None, None))
    assert rendered(EVENTS[events.CallEnded], unquoted)["data"]["quality"] is None


def test_a_reason_that_is_not_listed_is_noticed() -> None:
    call = call_resource(replace(ended_call(), ended=Ended("remote", "boredom")))
    with pytest.raises(ValueError, match="boredom"):
        Call.model_validate_json(render(call))


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_795_338_000.0004, "2026-11-22T09:00:00.000Z"),
        (1_795_338_000.123, "2026-11-22T09:00:00.123Z"),  # in binary a little less than that
        (1_795_337_999.9996, "2026-11-22T09:00:00.000Z"),
    ],
)
def test_times_are_utc_with_milliseconds(at: float, text: str) -> None:
    assert timestamp(at) == text


def test_addresses_are_written_as_in_a_uri() -> None:
    assert call_resource(SampleCall())["source"] == {"address": "192.0.2.7:5060", "transport": "udp"}
    six = SampleCall(source=Source("2001:db8::7", 5061, "tcp"))
    assert call_resource(six)["source"] == {"address": "[2001:db8::7]:5061", "transport": "tcp"}


def test_bytes_that_are_no_text_do_not_stop_an_event() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    call = replace(
        ended_call(), from_=Party(f"sip:{name}@example.org", name, "example.org", name), headers={"Subject": (name,)}
    )
    data = rendered(EVENTS[events.CallHeld], call)["data"]
    assert data["call"]["from"]["display_name"] == "caf\ufffd"
    assert data["call"]["sip"]["headers"] == {"Subject": ["caf\ufffd"]}


def test_text_stays_what_it_was() -> None:
    said = 'Ångström "\\ \u2028 \x00 🂡'
    call = replace(SampleCall(), client_state=said)
    assert rendered(EVENTS[events.CallHeld], call)["data"]["call"]["client_state"] == said


def test_figures_that_are_no_numbers_become_null() -> None:
    assert json.loads(render({"jitter_ms": float("nan")})) == {"jitter_ms": None}


def test_the_sequence_before_is_told_only_when_it_is_known() -> None:
    assert "previous_sequence" not in rendered(EVENTS[events.CallHeld], SampleCall())["data"]
    assert rendered(EVENTS[events.CallHeld], SampleCall(), previous_sequence=1)["data"]["previous_sequence"] == 1


def test_a_conversation_is_of_its_published_shape() -> None:
    resource = conversation_resource(CONVERSATION, [CALL], created_at=NOW)
    assert Conversation.model_validate_json(render(resource)).calls == [CALL]
    merged = ConversationId("conv_" + "f" * 24)
    resource = conversation_resource(CONVERSATION, [], created_at=NOW, merged_into=merged)
    assert Conversation.model_validate_json(render(resource)).merged_into == merged
