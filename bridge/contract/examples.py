"""One example for each thing that integrators read or write, as the published schemas show it.

Tests hold each against its model, so an example cannot go stale. Addresses and names are those of RFC 5737 and RFC 2606.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_CALL_ID = "call_k5mz3q7wnb2xv6ydtr4shjca"
_CONVERSATION_ID = "conv_t7c2xk5wqz3mb6nvy4rdsjha"
_ACTION_ID = "act_k5mz3q7wnb2xv6ydtr4shjca_1"
_EVENT_ID = "evt_b6nvk5mz3q7w2xydtr4shjca"
_PEER_ID = "call_w2xydtr4shjcab6nvk5mz3q7"

_QUALITY: Json = {
    "packets_received": 3000,
    "bytes_received": 516000,
    "packets_sent": 4,
    "bytes_sent": 688,
    "packets_lost": 2,
    "jitter_ms": 0.412,
    "strangers": 0,
    "invalid": 0,
    "packets_relayed": 0,
    "remote_packets_lost": None,
    "remote_jitter_ms": None,
    "round_trip_ms": None,
}

_INCOMING_CALL: Json = {
    "id": _CALL_ID,
    "conversation_id": _CONVERSATION_ID,
    "application": "front-desk",
    "direction": "inbound",
    "state": "initiated",
    "early_media": False,
    "from": {"uri": "sip:alice@example.org", "user": "alice", "host": "example.org", "display_name": "Alice"},
    "to": {"uri": "sip:desk@example.com", "user": "desk", "host": "example.com", "display_name": None},
    "source": {"address": "192.0.2.7:5060", "transport": "udp"},
    "authenticated_as": None,
    "trunk": None,
    "created_at": "2026-11-22T09:00:00.000Z",
    "answered_at": None,
    "ended_at": None,
    "attempts": [{"target": "sip:desk@example.com", "sip_call_id": "1-2345@192.0.2.7", "code": None, "reason": None}],
    "sip": {"call_id": "1-2345@192.0.2.7", "user_agent": "baresip v1.0.0", "headers": {"Subject": ["Lift 3"]}},
    "media": None,
    "ended": None,
    "recovered": 0,
    "client_state": None,
    "tags": [],
}

_BINDING: Json = {
    "contact": "sip:alice@192.0.2.7:5060;transport=udp",
    "q": 1.0,
    "expires_at": "2026-11-22T10:00:00.000Z",
    "source": {"address": "192.0.2.7:5060", "transport": "udp"},
    "flow": {"listener": "udp:0.0.0.0:5060", "behind_nat": False},
    "user_agent": "baresip v1.0.0",
    "instance": None,
    "reg_id": None,
    "path": [],
}
_REGISTRATION: Json = {"aor": "sip:alice@example.com", "bindings": [_BINDING]}
_NODE: Json = {
    "id": "bridge-0",
    "incarnation": "k3v9q2m7x4tz",
    "answering": True,
    "alive": True,
    "draining": False,
    "release": "0.1.0",
    "snapshot_versions": [1],
    "cluster_address": "192.0.2.10:7070",
    "started_at": "2026-11-22T08:00:00.000Z",
    "renewed_at": "2026-11-22T09:00:00.000Z",
    "load": {"calls": 2, "conversations": 1, "capacity": 4000},
}
_TRUNK: Json = {
    "name": "carrier",
    "targets": [
        {"uri": "sip:gw1.example.net", "priority": 0, "weight": 1},
        {"uri": "sip:gw2.example.net;transport=tcp", "priority": 1, "weight": 1},
    ],
    "domain": "example.net",
    "from": "<sip:+4930123456@example.net>",
    "username": "acme",
    "headers": {},
    "max_calls": 30,
    "calls_per_second": 5,
    "next_on": [480],
    "sources": ["203.0.113.0/29"],
    "latching": None,
    "source": "api",
}
_USER: Json = {"username": "alice", "aor": None, "source": "api"}

_ANSWERED_CALL: Json = {
    **_INCOMING_CALL,
    "state": "answered",
    "answered_at": "2026-11-22T09:00:02.500Z",
    "attempts": [{**_INCOMING_CALL["attempts"][0], "code": 200, "reason": "OK"}],
    "media": {
        "codec": "PCMU/8000",
        "local": "192.0.2.10:20000",
        "remote": "192.0.2.7:6000",
        "held": False,
        "quality": None,
    },
}

_ENDED: Json = {"by": "remote", "reason": "hangup", "sip_code": None, "sip_reason": None, "q850": 16}

_ENDED_CALL: Json = {
    **_ANSWERED_CALL,
    "state": "ended",
    "ended_at": "2026-11-22T09:01:02.500Z",
    "media": {**_ANSWERED_CALL["media"], "quality": _QUALITY},
    "ended": _ENDED,
}

_OUTBOUND_CALL: Json = {
    **_INCOMING_CALL,
    "direction": "outbound",
    "from": {"uri": "sip:desk@example.com", "user": "desk", "host": "example.com", "display_name": "Front Desk"},
    "to": {"uri": "sip:bob@example.org", "user": "bob", "host": "example.org", "display_name": None},
    "source": None,
    "attempts": [],
    "sip": {"call_id": "w2xydtr4shjcab6nvk5mz3q7", "user_agent": None, "headers": {}},
    "tags": ["reminder"],
}

_RINGING_CALL: Json = {
    **_OUTBOUND_CALL,
    "state": "ringing",
    "attempts": [
        {"target": "sip:bob@192.0.2.31", "sip_call_id": "w2xydtr4shjcab6nvk5mz3q7", "code": 486, "reason": "Busy Here"},
        {"target": "sip:bob@192.0.2.32", "sip_call_id": "jcab6nvk5mz3q7w2xydtr4sh", "code": None, "reason": None},
    ],
}

_CONVERSATION: Json = {
    "id": _CONVERSATION_ID,
    "calls": [_CALL_ID],
    "joined": False,
    "created_at": "2026-11-22T09:00:00.000Z",
    "merged_into": None,
}


def _event(kind: str, at: str, sequence: int, call: Json, *, caused_by: str | None = None, **adds: object) -> Json:
    return {
        "id": _EVENT_ID,
        "type": kind,
        "timestamp": at,
        "api_version": "1",
        "data": {
            "stream": _CALL_ID,
            "sequence": sequence,
            "call_id": _CALL_ID,
            "conversation_id": _CONVERSATION_ID,
            "application": "front-desk",
            "caused_by": caused_by,
            "call": call,
            **adds,
        },
    }


_MERGED_CONVERSATION: Json = {**_CONVERSATION, "calls": [], "merged_into": "conv_q7w2xydtr4shjcab6nvk5mz3"}

_INCOMING: Json = _event(
    "call.incoming",
    "2026-11-22T09:00:00.000Z",
    1,
    _INCOMING_CALL,
    request={
        "method": "INVITE",
        "uri": "sip:desk@example.com",
        "headers": {"Subject": ["Lift 3"]},
        "codecs": ["PCMU/8000", "PCMA/8000"],
    },
    replaces_call_id=None,
)

SCHEMAS: dict[str, list[Json]] = {
    "Call": [_ENDED_CALL, _RINGING_CALL],
    "CallList": [{"data": [_ENDED_CALL], "next_cursor": None}],
    "Receipt": [{"action_id": _ACTION_ID, "action_ids": [_ACTION_ID], "call": _INCOMING_CALL}],
    "Conversation": [_CONVERSATION, _MERGED_CONVERSATION],
    "ConversationList": [{"data": [_CONVERSATION], "next_cursor": None}],
    "ConversationReceipt": [{"action_ids": [_ACTION_ID], "conversation": _CONVERSATION}],
    "EventList": [{"data": [_INCOMING], "next_cursor": None}],
    "Readiness": [{"status": "ready"}],
    "Problem": [
        {
            "type": "/docs/errors#wrong_state",
            "title": "Wrong state",
            "status": 409,
            "detail": "the call is answered already",
            "code": "wrong_state",
            "call_id": _CALL_ID,
        }
    ],
    "DecisionReply": [{"actions": [{"action": "answer"}]}, {}],
    "ActionList": [{"actions": [{"action": "ring"}, {"action": "pause", "seconds": 2}, {"action": "answer"}]}],
    "RingBody": [{}],
    "AnswerBody": [{}, {"headers": {"X-Account": "17"}, "client_state": "step=2"}],
    "RejectBody": [{"code": 486}],
    "ParkBody": [{"timeout_s": 30}],
    "HangupBody": [{"reason": "closed"}],
    "DialBody": [
        {"to": "sip:bob@example.com"},
        {
            "to": [
                "sip:bob@example.com",
                {
                    "uri": "sip:4930123456@carrier.example.net",
                    "auth": {"username": "desk", "password": "…"},
                    "headers": {"X-Account": "17"},
                },
            ],
            "from": '"Front Desk" <sip:desk@example.com>',
            "fork": "serial",
            "timeout_s": 20,
        },
    ],
    "ProxyBody": [
        {},
        {
            "targets": ["sip:bob@192.0.2.31", {"uri": "sip:carol@192.0.2.32", "q": 0.5}],
            "fork": "serial",
            "timeout_s": 20,
        },
    ],
    "RedirectBody": [
        {"contacts": ["sip:bob@192.0.2.31"]},
        {"contacts": [{"uri": "sip:bob@192.0.2.31", "q": 0.7}, {"uri": "sip:bob@192.0.2.32", "q": 0.3}], "code": 300},
    ],
    "JoinBody": [{"call_id": _PEER_ID}],
    "Registration": [_REGISTRATION],
    "RegistrationList": [{"data": [_REGISTRATION], "next_cursor": None}],
    "Removal": [{"aor": "sip:alice@example.com", "removed": 1}],
    "User": [_USER],
    "Trunk": [_TRUNK],
    "TrunkBody": [
        {
            "targets": [{"uri": "sip:gw1.example.net"}, {"uri": "sip:gw2.example.net;transport=tcp", "priority": 1}],
            "domain": "example.net",
            "from": "<sip:+4930123456@example.net>",
            "auth": {"username": "acme", "password": "..."},
            "max_calls": 30,
        }
    ],
    "Node": [_NODE],
    "NodeList": [{"data": [_NODE], "next_cursor": None}],
    "UserBody": [{"password": "correct horse battery staple"}],
    "RegistrationReply": [
        {"actions": [{"action": "accept", "expires_s": 600}]},
        {"actions": [{"action": "reject"}]},
        {},
    ],
    "RegistrationCreated": [
        {
            "id": _EVENT_ID,
            "type": "registration.created",
            "timestamp": "2026-11-22T09:00:00.000Z",
            "api_version": "1",
            "data": {
                "stream": "aor:sip:alice@example.com",
                "sequence": 1,
                "application": "front-desk",
                "caused_by": None,
                "aor": "sip:alice@example.com",
                "username": "alice",
                "binding": _BINDING,
            },
        }
    ],
    "CallIncoming": [_INCOMING],
    "CallInitiated": [
        _event(
            "call.initiated",
            "2026-11-22T09:00:00.000Z",
            1,
            _OUTBOUND_CALL,
            targets=["sip:bob@192.0.2.31", "sip:bob@192.0.2.32"],
        )
    ],
    "CallRinging": [
        _event("call.ringing", "2026-11-22T09:00:02.000Z", 3, _RINGING_CALL, target="sip:bob@192.0.2.32"),
    ],
    "CallAttemptFailed": [
        _event(
            "call.attempt_failed",
            "2026-11-22T09:00:01.000Z",
            2,
            {**_OUTBOUND_CALL, "attempts": _RINGING_CALL["attempts"][:1]},
            target="sip:bob@192.0.2.31",
            code=486,
            reason="Busy Here",
            contacts=[],
        )
    ],
    "CallJoined": [
        _event(
            "call.joined",
            "2026-11-22T09:00:02.600Z",
            3,
            _ANSWERED_CALL,
            caused_by=_ACTION_ID,
            peer_call_id=_PEER_ID,
        )
    ],
    "CallProxied": [
        _event(
            "call.proxied",
            "2026-11-22T09:00:04.000Z",
            3,
            _INCOMING_CALL,
            caused_by=_ACTION_ID,
            code=200,
            reason="OK",
            target="sip:bob@192.0.2.31",
        )
    ],
    "CallRedirected": [
        _event(
            "call.redirected",
            "2026-11-22T09:00:00.100Z",
            2,
            _INCOMING_CALL,
            caused_by=_ACTION_ID,
            code=302,
            contacts=[{"uri": "sip:desk@192.0.2.31", "q": 0.7}, {"uri": "sip:desk@192.0.2.32", "q": None}],
        )
    ],
    "TransferRequested": [
        _event(
            "transfer.requested",
            "2026-11-22T09:01:00.000Z",
            4,
            _ANSWERED_CALL,
            to="sip:bob@example.org",
            referred_by="sip:alice@example.org",
            replaces_call_id=None,
            peer_call_id=_PEER_ID,
        )
    ],
    "TransferCompleted": [
        _event(
            "transfer.completed",
            "2026-11-22T09:01:02.400Z",
            5,
            _ANSWERED_CALL,
            caused_by=_ACTION_ID,
            to="sip:bob@example.org",
            code=200,
            reason="OK",
        )
    ],
    "CallDtmf": [
        _event(
            "call.dtmf",
            "2026-11-22T09:00:12.000Z",
            4,
            _ANSWERED_CALL,
            digit="5",
            duration_ms=120,
            method="rfc4733",
        )
    ],
    "CallAnswered": [
        _event("call.answered", "2026-11-22T09:00:02.500Z", 2, _ANSWERED_CALL, caused_by=_ACTION_ID, ring_s=2.5)
    ],
    "CallEnded": [
        _event(
            "call.ended",
            "2026-11-22T09:01:02.500Z",
            3,
            _ENDED_CALL,
            ended=_ENDED,
            duration_s=62.5,
            answered_s=60.0,
            quality=_QUALITY,
        )
    ],
    "ActionFailed": [
        _event(
            "action.failed",
            "2026-11-22T09:00:00.100Z",
            2,
            _INCOMING_CALL,
            action=None,
            action_id=None,
            code="invalid_reply",
            detail='actions.0.action: unknown action "dance"; known: answer, dial, hangup, hold, join',
            field="actions.0.action",
        )
    ],
}
