"""A call: one party that wants us, or that we want. What it is, what it shows, and what it still owes.

Plain mutable data with the few rules that every chapter of its life needs; the chapters stand beside it: `answering`
(from INVITE to ACK, called), `dialing` (the same, calling), `holding` and `reoffering` (the far end, or we, change the
session), `joining` (who hears whom), `ending`, `lists` (what the application wants next), and `machine` (one `step` over
all of them). Knows nothing of transports, stores or webhooks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from bridge.calls.actions import Action, Dial, Park, Proxy, Reject
from bridge.calls.destinations import ANYWHERE, Destinations
from bridge.calls.effects import CallEffect, CallTimer, DisarmTimer, Emit, OpenMedia, SetMedia, Tell
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
    Move,
    Party,
    Quality,
    Source,
)
from bridge.calls.lists import ActionList
from bridge.calls.passage import CancelCopy, Passage
from bridge.calls.peering import PeerGone
from bridge.calls.referral import Referral, Replacement
from bridge.calls.reoffer import Reoffer
from bridge.calls.search import Search
from bridge.calls.transfer import Transfer
from bridge.rtp.rules import Latching
from bridge.sdp.description import SessionDescription
from bridge.sdp.offer_answer import LocalEnd, Negotiated
from bridge.sip.dialog import Dialog
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.reliable import Provisionals
from bridge.sip.session_timer import SessionTimer
from bridge.sip.transaction import TransactionKey


class Phase(Enum):
    """How far a call has come. The public `state` is coarser."""

    UNANSWERED = "unanswered"  # inbound: its application decides; outbound: the party is being sought
    ANSWERING = "answering"  # inbound only: answer was asked for, ports are being opened
    ACCEPTED = "accepted"  # the 200 is there, and waits for the ACK: theirs, or ours to be stored
    ANSWERED = "answered"
    ENDING = "ending"  # over for the far end; the media worker still owes its figures
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Identity:
    """How we name ourselves on one listener."""

    contact: str  # the value of our Contact header
    server: str  # the value of our Server header
    allow: str  # the value of our Allow header

    def secured(self) -> Identity:
        """The same as a SIPS URI, which says by its scheme that TLS is wanted (§26.2.2, RFC 5630 §3.1.1)."""
        contact = self.contact.replace("<sip:", "<sips:", 1).replace(";transport=tls", "", 1)
        return Identity(contact, self.server, self.allow)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an application's calls follow when the application itself does not say."""

    name: str
    fallback: tuple[Action, ...] = (Reject(),)
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    latching: Latching = "strict"
    ring_limit_s: float = 180.0  # the longest a call may stay unanswered; Timer C of a proxy is 180 s too (§16.6)
    duration_limit_s: float = 14_400.0  # the longest an answered call may last
    destinations: Destinations = ANYWHERE  # whom it may call
    reliable_if_supported: bool = False  # provisional responses also to callers who would only take them (RFC 3262)
    session_expires_s: int | None = None  # what we ask for (RFC 4028); None: only what the far end asks for


class HangUp(NamedTuple):
    """A hang-up that has been asked for: what the far end is told, and what `call.ended` says."""

    ended_by: EndedBy
    reason: str  # one of END_REASONS
    headers: tuple[tuple[str, str], ...] = ()  # of the BYE, or of the final response
    caused_by: ActionId | None = None


@dataclass(slots=True)
class Link:
    """The other call that this one hears, or is being connected with. Each of the two has one, naming the other."""

    peer: CallId
    how: Literal["dial", "join"]
    asked: bool  # by this call's list; the other one was dialed, or joined
    action_id: ActionId  # of the dial or join
    end_with_peer: bool  # when one ends, so does the other
    joined: bool = False  # they hear each other, and it has been told
    offered: bool = False  # this one has been offered the other's codec

    def mirrored(self, call: CallId) -> Link:
        """The same, seen from the other side. `call`: whose link this is."""
        return Link(call, self.how, not self.asked, self.action_id, self.end_with_peer)


class Call:
    """One call, of either direction. Stepped by `machine.step`; read by whoever renders it."""

    __slots__ = (
        "accept_sent",
        "actions_made",
        "answer_action",
        "answer_headers",
        "answered_at",
        "application",
        "authenticated_as",
        "came_by",
        "came_by_latching",
        "cause",
        "client_state",
        "conversation_id",
        "created_at",
        "dial_failure",
        "dialog",
        "direction",
        "early_media",
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
        "link",
        "list",
        "local_sdp",
        "max_duration_s",
        "max_forwards",
        "media_address",
        "media_generation",
        "media_open",
        "media_port",
        "mirrored",
        "move",
        "muted",
        "negotiated",
        "offer",
        "on_hold",
        "out",
        "passage",
        "peer_media",
        "phase",
        "plan",
        "provisionals",
        "quality",
        "recovered",
        "referral",
        "reinvite",
        "reinvite_key",
        "reoffer",
        "replacement",
        "replaces",
        "ringing",
        "sdp_version",
        "search",
        "sequence",
        "session",
        "session_least",
        "shown",
        "sip_call_id",
        "source",
        "tag",
        "tags",
        "to",
        "transfer",
        "transfers",
        "unknown",
        "user_agent",
        "via_host",
        "video_port",
        "video_wanted",
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
        tag: str,
        from_: Party,
        to: Party,
        flow: Flow | None = None,
        invite: Request | None = None,
        search: Search | None = None,
        user_agent: str | None = None,
        headers: Mapping[str, tuple[str, ...]] | None = None,
        offer: SessionDescription | None = None,
    ) -> None:
        """Either `invite` with its `flow`, for a party that wants us, or `search`, for one that we want."""
        self.id = id
        self.conversation_id = conversation_id
        self.plan = plan
        self.application = plan.name
        self.identity = identity
        self.direction: Direction = "inbound" if search is None else "outbound"
        self.created_at = created_at
        self.flow = flow  # how its INVITE came, or how our own went that was answered
        self.source = None if flow is None else Source(flow.host, flow.port, flow.transport)
        self.via_host = "" if invite is None else invite.via.host  # what the caller takes for its own address
        self.tag = tag
        self.from_ = from_
        self.to = to
        self.user_agent = user_agent
        self.headers = headers or {}
        # An outbound call goes by its first attempt's until one has won.
        self.sip_call_id = invite.call_id if invite is not None else _first_call_id(search)
        self.max_forwards = 70 if invite is None else _max_forwards(invite)
        self.max_duration_s: float | None = None  # less than the plan allows; None: as long as that
        self.authenticated_as: str | None = None
        self.came_by: str | None = None  # the trunk whose address its INVITE came from
        self.came_by_latching: Latching | None = None  # as that trunk wants it; None: as the plan
        self.tags: tuple[str, ...] = ()
        self.client_state: str | None = None
        self.recovered = 0
        self.move: Move | None = None  # another node has carried it on, and its far end does not know yet
        self.unknown = ""  # fields of its record that a newer release wrote: ours to carry, not to read
        self.shown: bytes | None = None  # whoever renders the call keeps here what it need not write again

        self.phase = Phase.UNANSWERED
        self.ringing = False
        self.answered_at: float | None = None
        self.ended_at: float | None = None
        self.ended: Ended | None = None

        # What seeking needs; `mirrored` is the offer of the call that dials, until ours is made of it.
        self.search = search
        self.mirrored: SessionDescription | None = None
        self.early_media = False  # media before the answer: theirs on an outbound call, ours on an inbound one
        self.passage: Passage | None = None  # of its INVITE, which is passed on
        self.dial_failure: tuple[int, str] | None = None  # why the last party dialed for this call was not had

        # What answering needs; let go once the ACK has come.
        self.invite = invite
        self.invite_key: TransactionKey | None = None
        self.provisionals: Provisionals | None = None  # where they have to arrive for certain, or shall
        self.offer = offer
        self.answer_action: ActionId | None = None
        self.answer_headers: Mapping[str, tuple[str, ...]] = {}
        self.accept_sent = False
        self.hangup_wanted: HangUp | None = None  # it has to wait for the ACK (§15)

        self.dialog: Dialog | None = None
        # A re-INVITE of the far end, until the ACK of our 2xx; its transaction, until that 2xx has left.
        self.reinvite: Request | None = None
        self.reinvite_key: TransactionKey | None = None
        self.reoffer: Reoffer | None = None  # a re-INVITE of ours
        self.transfer: Transfer | None = None  # a REFER of ours
        self.referral: Referral | None = None  # a REFER of theirs
        self.replaces: CallId | None = None  # the call whose place its INVITE is to take (RFC 3891)
        self.replacement: Replacement | None = None  # that of the call which this one has heard so far
        self.transfers = 0  # how often it has been connected with somebody else by one
        self.session: SessionTimer | None = None  # how long it lasts without a refresh (RFC 4028)
        self.session_least = 0  # seconds: what a 422 has said to ask for at least

        self.negotiated: Negotiated | None = None
        self.local_sdp: bytes | None = None  # our side of the session, as we sent it last
        self.media_address: str | None = None
        self.media_port: int | None = None
        self.media_open = False  # a worker holds ports for us
        self.video_wanted = False  # the linked call has a picture, and so may this one
        self.video_port: int | None = None
        self.media_generation = 0
        self.sdp_version = 0
        self.held = False  # by the far end
        self.on_hold = False  # by us
        self.muted = False
        self.link: Link | None = None
        self.peer_media: Negotiated | None = None  # what the linked call speaks
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
    def trunk(self) -> str | None:
        """The trunk that it has come by, or that it was answered by."""
        won = self.search.answered() if self.search is not None else None
        return self.came_by if won is None else won.target.trunk or None

    @property
    def latching(self) -> Latching:
        """Which sources its stream may come from: as the trunk says whose party is heard, else as the plan does."""
        if self.search is None:
            return self.came_by_latching or self.plan.latching
        won = self.search.answered() or next((each for each in self.search.attempts if each.heard is not None), None)
        return (won is not None and won.target.latching) or self.plan.latching

    @property
    def attempts(self) -> Sequence[Attempt]:
        if self.search is not None:
            return tuple([it.told() for it in self.search.attempts])
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
    def way(self) -> Flow:
        """Its flow. Only for a call that a message has come or gone for."""
        if self.flow is None:
            raise AssertionError("nothing has come or gone for this call yet")
        return self.flow

    @property
    def is_over(self) -> bool:
        """True once nothing the application asks can change the call any more."""
        return self.phase in (Phase.ENDING, Phase.ENDED)

    @property
    def is_unanswered(self) -> bool:
        """True while a final response to the INVITE is still ours to choose."""
        return self.search is None and self.phase in (Phase.UNANSWERED, Phase.ANSWERING)

    @property
    def is_sought(self) -> bool:
        """True while the party of an outbound call has not been found."""
        return self.search is not None and self.phase is Phase.UNANSWERED

    @property
    def is_canceling(self) -> bool:
        """True while an INVITE of ours, or a copy of theirs, that was given up has no final response."""
        if self.passage is not None and self.passage.is_open:
            return True
        return self.search is not None and self.search.is_canceling

    @property
    def is_joined(self) -> bool:
        return self.link is not None and self.link.joined

    @property
    def duration_limit_s(self) -> float:
        """The longest it may last once it is answered."""
        limit = self.plan.duration_limit_s
        return limit if self.max_duration_s is None else min(limit, self.max_duration_s)

    @property
    def is_undecided(self) -> bool:
        """True until the application, or the plan in its place, has said the first thing about this call."""
        return self.is_unanswered and not self.actions_made and self.wait_until is None

    def emit(self, event: Event, *, caused_by: ActionId | None = None) -> None:
        self.out.append(Emit(event, caused_by))

    @property
    def has_ports(self) -> bool:
        """True once every port that its SDP has to name is there."""
        return self.media_open and (self.video_port is not None or not self.video_wanted)

    def open_media(self, *, video: bool) -> None:
        """Ask for ports. `video`: for a picture too."""
        self.video_wanted = video
        self.out.append(OpenMedia(video))

    def set_media(self) -> None:
        """The worker wants a new rule; nothing, where its ports are lost and the call is about to end."""
        if self.media_open:
            self.out.append(SetMedia())

    def new_action_id(self) -> ActionId:
        """Named after the call and a count, so that the same list taken up by another node has the same names."""
        self.actions_made += 1
        return ActionId(f"act_{self.id[5:]}_{self.actions_made}")

    def done(self, kind: type[Action] | None = None) -> None:
        """The running action is at its end, if it is of this kind; the list may go on."""
        current = self.list.current if self.list is not None else None
        if self.list is not None and (kind is None or (current is not None and isinstance(current.action, kind))):
            self.list.current = None

    def abandon_list(self) -> None:
        """Give up the running list; each action in it that was asked for and is not done is told as canceled."""
        if self.list is None:
            return
        current = self.list.current
        link = self.link
        if self.referral is not None and self.referral.link is not None:
            link = Link(*self.referral.link)  # what has brought the two together is done, and need not be told again
        under_way = [each.action_id for each in (self.reoffer, self.transfer) if each is not None]
        promised = {self.answer_action, *under_way}
        for step in self.list.abandon():
            if step.action_id in promised or (isinstance(step.action, Park) and step is current):
                continue  # that one's outcome is still to come; a park is done when something else comes
            if link is not None and link.joined and step.action_id == link.action_id:
                continue  # told by `call.joined`, and not undone by what comes next
            if step is current and isinstance(step.action, Dial) and link is not None:
                self.out.append(Tell(link.peer, PeerGone(ended=False)))  # nobody wants that party any more
                self.link = None
            if step is current and isinstance(step.action, Proxy):
                self._give_up_passage()
            self.cancel_action(step.action.name, step.action_id)
        self.list = None

    def _give_up_passage(self) -> None:
        """Nobody is to be found any more: the copies are canceled, and their transactions see to the rest (§9.1)."""
        passage, self.passage = self.passage, None
        for number, copy in enumerate(passage.copies if passage is not None else ()):
            if passage is not None and copy.sent_at and not copy.canceled and not copy.tag:
                self.out.append(CancelCopy(passage.serial, passage.loop, number, None))
        self.out.append(DisarmTimer(CallTimer.PROXY))

    def cancel_action(self, name: str, action_id: ActionId) -> None:
        """Tell that this action will not come to its end."""
        self.emit(ActionCanceled(name, action_id), caused_by=action_id)

    def local_end(self) -> LocalEnd:
        """Our side of the next SDP. The session id is the call's own, so that every process that carries it agrees."""
        if self.media_address is None or self.media_port is None:
            raise AssertionError("an SDP needs ports first")
        session_id = int.from_bytes(self.id.encode()[5:12], "big") >> 3
        return LocalEnd(self.media_address, self.media_port, session_id, self.sdp_version, video_port=self.video_port)


def join_address(host: str | None, port: int | None) -> str | None:
    """`host:port`, with brackets where IPv6 wants them; None when either is unknown."""
    if host is None or port is None:
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _first_call_id(search: Search | None) -> str:
    if search is None or not search.attempts:
        raise AssertionError("an outbound call has somebody to seek")
    return search.attempts[0].sip_call_id


def _max_forwards(invite: Request) -> int:
    """What a caller has left of it (§8.1.1.6), bounded by what anybody may begin with."""
    text = invite.headers.get("Max-Forwards")
    return min(int(text), 70) if text is not None and text.isascii() and text.isdigit() and len(text) < 4 else 70
