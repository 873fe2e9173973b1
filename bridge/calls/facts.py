"""The small facts that a Call carries and the public contract shows: who, whence, with what media, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, NewType

CallId = NewType("CallId", str)  # "call_" + 24 characters of a-z2-7
ConversationId = NewType("ConversationId", str)  # "conv_" + 24 characters
ActionId = NewType("ActionId", str)  # "act_" + 24 characters
EventId = NewType("EventId", str)  # "evt_" + 24 characters

Direction = Literal["inbound", "outbound"]
CallState = Literal["initiated", "ringing", "answered", "ended"]
EndedBy = Literal["local", "remote", "network", "policy", "node"]

# What this release can produce (contract §4 names more); a test holds that it does.
END_REASONS: tuple[str, ...] = (
    "hangup",
    "canceled",
    "rejected",
    "busy",
    "declined",
    "forbidden",
    "no_answer",
    "not_found",
    "unreachable",
    "unauthorized",
    "not_acceptable",
    "server_error",
    "redirected",
    "proxied",
    "answered_elsewhere",
    "replaced",
    "transferred",
    "peer_ended",
    "park_timeout",
    "media_timeout",
    "session_expired",
    "max_duration",
    "ack_timeout",
    "protocol_error",
    "overload",
    "store_away",
    "drained",
    "node_lost",
    "application_failed",
)


class Party(NamedTuple):
    """One end as its From or To header names it."""

    uri: str
    user: str | None
    host: str | None
    display_name: str | None


class Contact(NamedTuple):
    """One place that a redirect names (§20.10)."""

    uri: str  # as it stands between the brackets
    q: float | None = None  # 0.0 to 1.0, the higher the sooner; None: it does not say


class Source(NamedTuple):
    """Where the call's first message came from."""

    host: str
    port: int
    transport: str


class Move(NamedTuple):
    """From one node to another, because the first one died or has let go."""

    former: str  # node id
    present: str
    silent_since: float  # seconds UTC: the former node's last sign of life


class Ended(NamedTuple):
    """Why a call is over (contract: `ended`)."""

    by: EndedBy
    reason: str  # one of END_REASONS
    sip_code: int | None = None
    sip_reason: str | None = None
    q850: int | None = None  # from a Reason header (RFC 3326)


@dataclass(frozen=True, slots=True)
class Quality:
    """What a media worker counted for one call, both directions; times in milliseconds."""

    packets_received: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    bytes_sent: int = 0
    packets_lost: int = 0  # RFC 3550 §6.4.1, from sequence numbers
    jitter_ms: float = 0.0  # RFC 3550 §6.4.1
    strangers: int = 0  # packets from a source that was not allowed
    invalid: int = 0  # packets that are no RTP
    packets_relayed: int = 0  # of those received: sent on to whom the call is joined with
    remote_packets_lost: int | None = None  # of those sent, as the far end reports (RTCP); None: it did not
    remote_jitter_ms: float | None = None  # likewise
    round_trip_ms: float | None = None  # between the far end and us


class Media(NamedTuple):
    """The audio stream of a call as negotiated, and at the end what came of it."""

    codec: str | None  # "PCMU/8000"
    local: str | None  # "192.0.2.10:20000"
    remote: str | None
    held: bool = False
    quality: Quality | None = None


class Attempt(NamedTuple):
    """One dialog sought for a call. An inbound call has one: its own."""

    target: str
    sip_call_id: str
    code: int | None
    reason: str | None
    trunk: str | None = None  # that it was called by
