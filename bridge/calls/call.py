"""A call: one party that wants us. What it is, what it shows, and what it still owes.

Plain mutable data with the few rules that every chapter of its life needs; the chapters stand beside it: `answering`
(from INVITE to ACK), `holding` (the far end changes the session), `ending`, `lists` (what the application wants next),
and `machine` (one `step` over all of them). Knows nothing of transports, stores or webhooks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from bridge.calls.actions import Action, Park, Reject
from bridge.calls.effects import CallEffect, Emit
from bridge.calls.events import ActionCanceled, Event
from bridge.calls.facts import (
    ActionId,
    Attempt,
    CallId,
    CallState,
    ConversationId,
    Direction,
    Ended,
    EndedBy,
    Media,
    Party,
    Quality,
    Source,
)
from bridge.calls.lists import ActionList
from bridge.rtp.rules import Latching
from bridge.sdp.description import SessionDescription
from bridge.sdp.offer_answer import LocalEnd, Negotiated
from bridge.sip.dialog import Dialog
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.transaction import TransactionKey


class Phase(Enum):
    """How far an inbound call has come. The public `state` is coarser."""

    UNANSWERED = "unanswered"  # its application decides
    ANSWERING = "answering"  # answer was asked for: ports are being opened
    ACCEPTED = "accepted"  # the 200 is written (and then sent); its ACK has not come
    ANSWERED = "answered"
    ENDING = "ending"  # over for the far end; the media worker still owes its figures
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Identity:
    """How we name ourselves on one listener."""

    contact: str  # the value of our Contact header
    server: str  # the value of our Server header
    allow: str  # the value of our Allow header


@dataclass(frozen=True, slots=True)
class Plan:
    """What an application's calls follow when the application itself does not say."""

    name: str
    fallback: tuple[Action, ...] = (Reject(),)
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    latching: Latching = "strict"
    ring_limit_s: float = 180.0  # the longest a call may stay unanswered; Timer C of a proxy is 180 s too (§16.6)
    duration_limit_s: float = 14_400.0  # the longest an answered call may last


class HangUp(NamedTuple):
    """A hang-up that has been asked for: what the far end is told, and what `call.ended` says."""

    ended_by: EndedBy
    reason: str  # one of END_REASONS
    headers: tuple[tuple[str, str], ...] = ()  # of the BYE, or of the final response
    caused_by: ActionId | None = None


class Call:
    """One inbound call. Stepped by `machine.step`; read by whoever renders it."""

    __slots__ = (
        "accept_sent",
        "actions_made",
        "answer_action",
        "answer_headers",
        "answered_at",
        "application",
        "authenticated_as",
        "cause",
        "client_state",
        "conversation_id",
        "created_at",
        "dialog",
        "direction",
        "end_action",
        "ended",
        "ended_at",
        "flow",
        "from_",
        "hangup_wanted",
        "headers",
        "held",
        "id",
        "identity",
        "invite",
        "invite_key",
        "list",
        "local_sdp",
        "media_address",
        "media_generation",
        "media_open",
        "media_port",
        "negotiated",
        "offer",
        "out",
        "phase",
        "plan",
        "quality",
        "recovered",
        "reinvite",
        "reinvite_key",
        "ringing",
        "sdp_version",
        "sequence",
        "shown",
        "sip_call_id",
        "source",
        "tag",
        "tags",
        "to",
        "user_agent",
        "via_host",
        "wait_until",
    )

    def __init__(
        self,
        *,
        id: CallId,  # noqa: A002 -- the public name of the field
        conversation_id: ConversationId,
        plan: Plan,
        identity: Identity,
        created_at: float,
        flow: Flow,
        tag: str,
        invite: Request,
        from_: Party,
        to: Party,
        user_agent: str | None,
        headers: Mapping[str, tuple[str, ...]],
        offer: SessionDescription | None,
    ) -> None:
        self.id = id
        self.conversation_id = conversation_id
        self.plan = plan
        self.application = plan.name
        self.identity = identity
        self.direction: Direction = "inbound"
        self.created_at = created_at
        self.flow = flow
        self.source = Source(flow.host, flow.port, flow.transport)
        self.via_host = invite.via.host  # what the caller takes for its own address
        self.tag = tag
        self.from_ = from_
        self.to = to
        self.user_agent = user_agent
        self.headers = headers
        self.sip_call_id = invite.call_id
        self.authenticated_as: str | None = None
        self.tags: tuple[str, ...] = ()
        self.client_state: str | None = None
        self.recovered = 0
        self.shown: bytes | None = None  # whoever renders the call keeps here what it need not write again

        self.phase = Phase.UNANSWERED
        self.ringing = False
        self.answered_at: float | None = None
        self.ended_at: float | None = None
        self.ended: Ended | None = None

        # What answering needs; let go once the ACK has come.
        self.invite: Request | None = invite
        self.invite_key: TransactionKey | None = None
        self.offer = offer
        self.answer_action: ActionId | None = None
        self.answer_headers: Mapping[str, tuple[str, ...]] = {}
        self.accept_sent = False
        self.hangup_wanted: HangUp | None = None  # it has to wait for the ACK (§15)

        self.dialog: Dialog | None = None
        # A re-INVITE of the far end, until the ACK of our 2xx; its transaction, until that 2xx has left.
        self.reinvite: Request | None = None
        self.reinvite_key: TransactionKey | None = None

        self.negotiated: Negotiated | None = None
        self.local_sdp: bytes | None = None  # our side of the session, as we sent it last
        self.media_address: str | None = None
        self.media_port: int | None = None
        self.media_open = False  # a worker holds ports for us
        self.media_generation = 0
        self.sdp_version = 0
        self.held = False
        self.quality: Quality | None = None

        self.list: ActionList | None = None
        self.wait_until: float | None = None  # when the running pause or park is over
        self.actions_made = 0
        self.sequence = 0  # of its last event
        self.cause: str | None = None  # why the fallback plan runs; becomes the reason if that plan ends the call
        self.end_action: ActionId | None = None

        self.out: list[CallEffect] = []

    # What a reader sees (contract: the Call resource)

    @property
    def state(self) -> CallState:
        if self.phase is Phase.ENDED:
            return "ended"
        if self.answered_at is not None:
            return "answered"
        return "ringing" if self.ringing else "initiated"

    @property
    def early_media(self) -> bool:
        return False  # an inbound call gets none from us before its 200

    @property
    def attempts(self) -> Sequence[Attempt]:
        code = self.ended.sip_code if self.ended and self.answered_at is None else None
        reason = self.ended.sip_reason if self.ended and self.answered_at is None else None
        if self.answered_at is not None:
            code, reason = 200, "OK"
        return (Attempt(self.to.uri, self.sip_call_id, code, reason),)

    @property
    def media(self) -> Media | None:
        if self.negotiated is None:
            return None
        codec, host = self.negotiated.codec, self.negotiated.remote_host
        return Media(
            codec=f"{codec.name}/{codec.clock_rate}",
            local=join_address(self.media_address, self.media_port),
            remote=join_address(host, self.negotiated.remote_port),
            held=self.held,
            quality=self.quality,
        )

    # Small rules that more than one chapter needs

    @property
    def is_over(self) -> bool:
        """True once nothing the application asks can change the call any more."""
        return self.phase in (Phase.ENDING, Phase.ENDED)

    @property
    def is_unanswered(self) -> bool:
        """True while a final response to the INVITE is still ours to choose."""
        return self.phase in (Phase.UNANSWERED, Phase.ANSWERING)

    @property
    def is_undecided(self) -> bool:
        """True until the application, or the plan in its place, has said the first thing about this call."""
        return self.phase is Phase.UNANSWERED and not self.actions_made and self.wait_until is None

    def emit(self, event: Event, *, caused_by: ActionId | None = None) -> None:
        self.out.append(Emit(event, caused_by))

    def new_action_id(self) -> ActionId:
        """Named after the call and a count, so that the same list taken up by another node has the same names."""
        self.actions_made += 1
        return ActionId(f"act_{self.id[5:]}_{self.actions_made}")

    def abandon_list(self) -> None:
        """Give up the running list; each action in it that was asked for and is not done is told as canceled."""
        if self.list is None:
            return
        current = self.list.current
        for step in self.list.abandon():
            if step.action_id == self.answer_action or (isinstance(step.action, Park) and step is current):
                continue  # the answer's outcome is still to come; a park is done when something else comes
            self.cancel_action(step.action.name, step.action_id)
        self.list = None

    def cancel_action(self, name: str, action_id: ActionId) -> None:
        """Tell that this action will not come to its end."""
        self.emit(ActionCanceled(name, action_id), caused_by=action_id)

    def local_end(self) -> LocalEnd:
        """Our side of the next SDP. The session id is the call's own, so that every process that carries it agrees."""
        if self.media_address is None or self.media_port is None:
            raise AssertionError("an SDP needs ports first")
        session_id = int.from_bytes(self.id.encode()[5:12], "big") >> 3
        return LocalEnd(self.media_address, self.media_port, session_id, self.sdp_version)


def join_address(host: str | None, port: int | None) -> str | None:
    """`host:port`, with brackets where IPv6 wants them; None when either is unknown."""
    if host is None or port is None:
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
