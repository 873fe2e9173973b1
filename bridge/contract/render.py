"""Calls and events as the public JSON: the bodies of webhooks, the final record of a call (contract §2 and §3).

A hot path: three events for every answered call. Plain dictionaries and one pass of the serialiser; the models in
`models` and `events` check the result in tests, not here. Knows nothing of endpoints, signatures or stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

from pydantic_core import PydanticSerializationError, to_json

from bridge.calls import events
from bridge.calls.facts import (
    ActionId,
    Attempt,
    CallId,
    CallState,
    Contact,
    ConversationId,
    Direction,
    Ended,
    EventId,
    Media,
    Party,
    Quality,
    Source,
)
from bridge.contract.envelope import API_VERSION

Json = dict[str, Any]  # what the serialiser takes; its leaves are text, numbers, booleans and None


class CallView(Protocol):
    """What the renderer reads of a call. `bridge.calls.call.Call` is one."""

    @property
    def id(self) -> CallId: ...
    @property
    def conversation_id(self) -> ConversationId: ...
    @property
    def application(self) -> str: ...
    @property
    def direction(self) -> Direction: ...
    @property
    def state(self) -> CallState: ...
    @property
    def early_media(self) -> bool: ...
    @property
    def from_(self) -> Party: ...
    @property
    def to(self) -> Party: ...
    @property
    def source(self) -> Source | None: ...
    @property
    def authenticated_as(self) -> str | None: ...
    @property
    def trunk(self) -> str | None: ...
    @property
    def created_at(self) -> float: ...
    @property
    def answered_at(self) -> float | None: ...
    @property
    def ended_at(self) -> float | None: ...
    @property
    def attempts(self) -> Sequence[Attempt]: ...
    @property
    def sip_call_id(self) -> str: ...
    @property
    def user_agent(self) -> str | None: ...
    @property
    def headers(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def media(self) -> Media | None: ...
    @property
    def ended(self) -> Ended | None: ...
    @property
    def recovered(self) -> int: ...
    @property
    def client_state(self) -> str | None: ...
    @property
    def tags(self) -> tuple[str, ...]: ...

    shown: bytes | None  # what `call_json` keeps with the call, None at first


@lru_cache(maxsize=1024)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.")


@lru_cache(maxsize=1024)  # when a call was answered is told three times
def timestamp(at: float) -> str:
    """Seconds UTC as ISO 8601 with milliseconds."""
    second, millisecond = divmod(round(at * 1000), 1000)
    return f"{_second(second)}{millisecond:03d}Z"


def render(resource: object) -> bytes:
    """JSON in UTF-8. What the far end sent may hold bytes that are no UTF-8: they become U+FFFD, never an error."""
    try:
        return to_json(resource, inf_nan_mode="null")
    except PydanticSerializationError:
        # A lone surrogate: how undecodable bytes travel through Python text (PEP 383).
        return to_json(_readable(resource), inf_nan_mode="null")


def _readable(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        case Mapping():
            return {_readable(key): _readable(item) for key, item in value.items()}
        case list() | tuple():
            return [_readable(item) for item in value]
    return value


def _party(party: Party) -> Json:
    return {"uri": party.uri, "user": party.user, "host": party.host, "display_name": party.display_name}


def _source(source: Source | None) -> Json | None:
    if source is None:
        return None
    host = f"[{source.host}]" if ":" in source.host else source.host
    return {"address": f"{host}:{source.port}", "transport": source.transport}


def _quality(quality: Quality | None) -> Json | None:
    if quality is None:
        return None
    return {
        "packets_received": quality.packets_received,
        "bytes_received": quality.bytes_received,
        "packets_sent": quality.packets_sent,
        "bytes_sent": quality.bytes_sent,
        "packets_lost": quality.packets_lost,
        "jitter_ms": round(quality.jitter_ms, 3),
        "strangers": quality.strangers,
        "invalid": quality.invalid,
        "packets_relayed": quality.packets_relayed,
        "remote_packets_lost": quality.remote_packets_lost,
        "remote_jitter_ms": _rounded(quality.remote_jitter_ms),
        "round_trip_ms": _rounded(quality.round_trip_ms),
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)


def _media(media: Media | None) -> Json | None:
    if media is None:
        return None
    return {
        "codec": media.codec,
        "local": media.local,
        "remote": media.remote,
        "held": media.held,
        "quality": _quality(media.quality),
    }


def _ended(ended: Ended | None) -> Json | None:
    if ended is None:
        return None
    return {
        "by": ended.by,
        "reason": ended.reason,
        "sip_code": ended.sip_code,
        "sip_reason": ended.sip_reason,
        "q850": ended.q850,
    }


def call_resource(call: CallView) -> Json:
    """The Call as it is now (`models.Call`)."""
    return _unchanging(call) | _changing(call)


def call_json(call: CallView) -> bytes:
    """The same as JSON. What never changes of a call is written once and kept with it: half of each of its events."""
    return _spliced(call, _changing(call))


def _spliced(call: CallView, changing: Json) -> bytes:
    if call.shown is None:
        call.shown = render(_unchanging(call))
    return call.shown[:-1] + b"," + render(changing)[1:]


def _unchanging(call: CallView) -> Json:
    return {
        "id": call.id,
        "application": call.application,
        "direction": call.direction,
        "from": _party(call.from_),
        "to": _party(call.to),
        "source": _source(call.source),
        "created_at": timestamp(call.created_at),
        "sip": {"call_id": call.sip_call_id, "user_agent": call.user_agent, "headers": call.headers},
    }


def _changing(call: CallView) -> Json:
    answered_at, ended_at = call.answered_at, call.ended_at
    return {
        "conversation_id": call.conversation_id,
        "state": call.state,
        "early_media": call.early_media,
        "authenticated_as": call.authenticated_as,
        "trunk": call.trunk,
        "answered_at": None if answered_at is None else timestamp(answered_at),
        "ended_at": None if ended_at is None else timestamp(ended_at),
        "attempts": [
            {
                "target": it.target,
                "sip_call_id": it.sip_call_id,
                "code": it.code,
                "reason": it.reason,
                "trunk": it.trunk,
            }
            for it in call.attempts
        ],
        "media": _media(call.media),
        "ended": _ended(call.ended),
        "recovered": call.recovered,
        "client_state": call.client_state,
        "tags": call.tags,
    }


def conversation_resource(
    conversation: ConversationId,
    calls: Iterable[CallId],
    *,
    created_at: float,
    joined: bool = False,
    merged_into: ConversationId | None = None,
) -> Json:
    """The conversation as it is now (`models.Conversation`)."""
    return {
        "id": conversation,
        "calls": list(calls),
        "joined": joined,
        "created_at": timestamp(created_at),
        "merged_into": merged_into,
    }


def _incoming(event: events.CallIncoming, call: Json, data: Json) -> None:
    data["request"] = {"method": event.method, "uri": event.uri, "headers": event.headers, "codecs": event.codecs}
    data["replaces_call_id"] = event.replaces_call_id


def _initiated(event: events.CallInitiated, call: Json, data: Json) -> None:
    data["targets"] = event.targets


def _target(event: events.CallRinging | events.CallEarlyMedia, call: Json, data: Json) -> None:
    data["target"] = event.target


def _attempt_failed(event: events.CallAttemptFailed, call: Json, data: Json) -> None:
    data["target"] = event.target
    data["code"] = event.code
    data["reason"] = event.reason
    data["contacts"] = _contacts(event.contacts)


def _peer(event: events.CallJoined | events.CallLeft, call: Json, data: Json) -> None:
    data["peer_call_id"] = event.peer


def _dtmf(event: events.CallDtmf, call: Json, data: Json) -> None:
    data["digit"] = event.digit
    data["duration_ms"] = event.duration_ms
    data["method"] = event.method


def _answered(event: events.CallAnswered, call: Json, data: Json) -> None:
    data["ring_s"] = round(event.ring_s, 3)


def _nothing(event: events.CallHeld | events.CallResumed | events.CallUpdated, call: Json, data: Json) -> None:
    """These say it all by their type and the Call."""


def _proxied(event: events.CallProxied, call: Json, data: Json) -> None:
    data["code"], data["reason"], data["target"] = event.code, event.reason, event.target


def _redirected(event: events.CallRedirected, call: Json, data: Json) -> None:
    data["code"] = event.code
    data["contacts"] = _contacts(event.contacts)


def _transfer_requested(event: events.TransferRequested, call: Json, data: Json) -> None:
    data["to"] = event.to
    data["referred_by"] = event.referred_by
    data["replaces_call_id"] = event.replaces_call_id
    data["peer_call_id"] = event.peer


def _transfer(
    event: events.TransferProgress | events.TransferCompleted | events.TransferFailed, call: Json, data: Json
) -> None:
    data["to"] = event.to
    data["code"] = event.code
    data["reason"] = event.reason


def _contacts(given: Iterable[Contact]) -> list[Json]:
    return [{"uri": contact.uri, "q": contact.q} for contact in given]


def _recovered(event: events.CallRecovered, call: Json, data: Json) -> None:
    data["from_node"] = event.former
    data["to_node"] = event.present
    data["gap_ms"] = round(event.gap_s * 1000)


def _over(event: events.CallEnded, call: Json, data: Json) -> None:
    media = call["media"]
    data["ended"] = call["ended"]
    data["duration_s"] = round(event.duration_s, 3)
    data["answered_s"] = round(event.answered_s, 3)
    data["quality"] = media and media["quality"]


def _action(event: events.ActionCompleted | events.ActionCanceled, call: Json, data: Json) -> None:
    data["action"] = event.action
    data["action_id"] = event.action_id


def _failed(event: events.ActionFailed, call: Json, data: Json) -> None:
    data["action"] = event.action
    data["action_id"] = event.action_id
    data["code"] = event.code
    data["detail"] = event.detail
    data["field"] = event.field


# What each type adds to the Call, of which it is shown what changes; a test holds it complete.
ADDITIONS: dict[type[events.Event], Callable[[Any, Json, Json], None]] = {
    events.CallIncoming: _incoming,
    events.CallInitiated: _initiated,
    events.CallRinging: _target,
    events.CallEarlyMedia: _target,
    events.CallAttemptFailed: _attempt_failed,
    events.CallAnswered: _answered,
    events.CallJoined: _peer,
    events.CallLeft: _peer,
    events.CallDtmf: _dtmf,
    events.CallHeld: _nothing,
    events.CallResumed: _nothing,
    events.CallUpdated: _nothing,
    events.CallRedirected: _redirected,
    events.CallProxied: _proxied,
    events.TransferRequested: _transfer_requested,
    events.TransferProgress: _transfer,
    events.TransferCompleted: _transfer,
    events.TransferFailed: _transfer,
    events.CallRecovered: _recovered,
    events.CallEnded: _over,
    events.ActionCompleted: _action,
    events.ActionFailed: _failed,
    events.ActionCanceled: _action,
}


def render_event(
    event_id: EventId,
    event: events.Event,
    call: CallView,
    *,
    sequence: int,
    conversation: ConversationId,
    application: str,
    caused_by: ActionId | None,
    now: float,
    previous_sequence: int | None = None,
) -> bytes:
    """The body of one event's webhooks, rendered once, when the event is stored.

    `sequence` counts the call's events from 1; `now` (seconds UTC) is when it happened. `previous_sequence` is left out
    where it is not given.
    """
    changing = _changing(call)
    data: Json = {
        "stream": call.id,
        "sequence": sequence,
        "call_id": call.id,
        "conversation_id": conversation,
        "application": application,
        "caused_by": caused_by,
    }
    if previous_sequence is not None:
        data["previous_sequence"] = previous_sequence
    ADDITIONS[type(event)](event, changing, data)
    body = render(
        {"id": event_id, "type": event.type, "timestamp": timestamp(now), "api_version": API_VERSION, "data": data}
    )
    return b'%b,"call":%b}}' % (body[:-2], _spliced(call, changing))
