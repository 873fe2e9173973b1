"""Calls and events to render: one of everything, with every optional thing there and every optional thing missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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

NOW = 1_795_338_000.25  # 2026-11-22T09:00:00.250Z
CALL = CallId("call_" + "a" * 24)
CONVERSATION = ConversationId("conv_" + "b" * 24)
EVENT = EventId("evt_" + "c" * 24)
ACTION = ActionId("act_" + "d" * 24 + "_1")


ANONYMOUS = Party("sip:anonymous@anonymous.invalid", "anonymous", "anonymous.invalid", None)
NUMBER = Party("tel:+4930123456", None, None, None)
PEER = Source("192.0.2.7", 5060, "udp")


@dataclass
class SampleCall:
    """A call as the renderer reads it: fresh, nothing optional known."""

    id: CallId = CALL
    conversation_id: ConversationId = CONVERSATION
    application: str = "front-desk"
    direction: Direction = "inbound"
    state: CallState = "initiated"
    early_media: bool = False
    from_: Party = ANONYMOUS
    to: Party = NUMBER
    source: Source | None = PEER
    authenticated_as: str | None = None
    trunk: str | None = None
    created_at: float = NOW
    answered_at: float | None = None
    ended_at: float | None = None
    attempts: Sequence[Attempt] = ()
    sip_call_id: str = "1-2345@192.0.2.7"
    user_agent: str | None = None
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    media: Media | None = None
    ended: Ended | None = None
    recovered: int = 0
    client_state: str | None = None
    tags: tuple[str, ...] = ()
    shown: bytes | None = None


def ended_call() -> SampleCall:
    """A call with everything filled in."""
    return SampleCall(
        state="ended",
        from_=Party("sip:alice@example.org", "alice", "example.org", "Alice Ångström"),
        to=Party("sip:desk@example.com", "desk", "example.com", "Front Desk"),
        source=Source("2001:db8::7", 5060, "udp"),
        authenticated_as="alice",
        answered_at=NOW + 2.5,
        ended_at=NOW + 62.5,
        attempts=(Attempt("sip:desk@example.com", "1-2345@192.0.2.7", 200, "OK"),),
        user_agent="SIPp/linux",
        headers={"Subject": ("Performance Test",), "X-Account": ("17", "18")},
        media=Media("PCMU/8000", "192.0.2.10:20000", "192.0.2.7:6000", held=False, quality=QUALITY),
        ended=Ended("remote", "hangup", 200, "OK", 16),
        recovered=1,
        client_state="step=3",
        tags=("vip", "de"),
    )


def outbound_call() -> SampleCall:
    """A call of ours that one target has refused and another one is asked for."""
    return SampleCall(
        direction="outbound",
        state="ringing",
        early_media=True,
        source=None,
        attempts=(
            Attempt("sip:bob@example.org", "one", 486, "Busy Here"),
            Attempt("sip:bob@192.0.2.32", "two", None, None),
        ),
        tags=("reminder",),
    )


QUALITY = Quality(3000, 516_000, 2998, 515_656, 2, 0.12345, 1, 0, 2900, 4, 1.23456, None)

EVENTS: dict[type[events.Event], events.Event] = {
    type(event): event
    for event in (
        events.CallIncoming(
            "INVITE", "sip:desk@example.com", {"Subject": ("Performance Test",)}, ("PCMU/8000", "PCMA/8000")
        ),
        events.TransferRequested("sip:bob@example.org", "sip:alice@example.org", None, CALL),
        events.CallInitiated(("sip:bob@example.org", "sip:bob@192.0.2.32")),
        events.CallRinging("sip:bob@example.org"),
        events.CallEarlyMedia("sip:bob@example.org"),
        events.CallAttemptFailed("sip:bob@example.org", 486, "Busy Here"),
        events.CallAnswered(2.5),
        events.CallJoined("call_" + "e" * 24),
        events.CallLeft("call_" + "e" * 24),
        events.CallDtmf("#", 120, "rfc4733"),
        events.CallHeld(),
        events.CallResumed(),
        events.CallUpdated(),
        events.CallProxied(200, "OK", "sip:bob@192.0.2.33"),
        events.CallRedirected(302, (Contact("sip:bob@192.0.2.33", 0.5), Contact("tel:+4930123456"))),
        events.TransferProgress("sip:bob@example.org", 180, "Ringing"),
        events.TransferCompleted("sip:bob@example.org", 200, "OK"),
        events.TransferFailed("sip:bob@example.org", 486, "Busy Here"),
        events.CallRecovered("bridge-0", "bridge-1", 3.251),
        events.CallEnded(62.5, 60.0),
        events.ActionCompleted("ring", ACTION),
        events.ActionFailed(None, None, "invalid_reply", "the reply is no JSON: …", "actions.0.code"),
        events.ActionCanceled("pause", ACTION),
    )
}
