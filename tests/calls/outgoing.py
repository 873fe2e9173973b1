"""Calls that we make, and calls that hear each other, on a bench: the party's answers, and every state that they lead to."""

from __future__ import annotations

from collections.abc import Callable

from bridge.calls.actions import Action, Answer, Dial, Fork, Hold, Join, Mute, OnRedirect, Park, Pause, Target
from bridge.calls.call import Call, Link, Plan
from bridge.calls.dialing import sought
from bridge.calls.effects import CallEffect
from bridge.calls.facts import ActionId, CallId
from bridge.calls.inputs import (
    AckSent,
    CodecWanted,
    InviteAnswered,
    InviteFailed,
    InviteRefused,
    Joined,
    Linked,
    Located,
    MediaClosed,
    MediaOpened,
    Progressed,
    ReferralDecided,
    Referred,
    ReinviteAnswered,
    ReinviteRefused,
)
from bridge.calls.lists import ActionList, Step
from bridge.calls.peering import PartnerReferred, PeerAnswered, PeerFailed, PeerMedia, PeerRinging, ReferralNews
from bridge.calls.referral import AcceptTransfer, Referral
from bridge.calls.search import Place, Search
from bridge.sdp.description import SessionDescription, parse
from bridge.sdp.offer_answer import Answered, LocalEnd, Negotiated, answer
from bridge.sip.dialog import Dialog
from bridge.sip.flow import Flow
from bridge.sip.headers import Line
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse as parse_message
from tests.calls.bench import CALL, CONVERSATION, FLOW, TAG, Bench, answered
from tests.engine.world import IDENTITY, sdp

PEER = CallId("call_" + "p" * 24)
DIALED = ActionId("act_" + "p" * 22 + "_1")  # by the other call
BOB = Target("sip:bob@192.0.2.2:5060")
THIRD = CallId("call_" + "t" * 24)
CAROL = Target("sip:carol@192.0.2.3:5060")


class Calling(Bench):
    """One call to a party, and everything it has asked for."""

    def __init__(
        self,
        *targets: Target,
        plan: Plan | None = None,
        actions: tuple[Action, ...] = (),
        link: Link | None = None,
        fork: Fork = "parallel",
        on_redirect: OnRedirect = "follow",
        timeout_s: float = 60.0,
    ) -> None:
        self.now = 1000.0
        self.invite = None
        self.plan = plan or Plan("front-desk")
        how = {"fork": fork, "on_redirect": on_redirect, "timeout_s": timeout_s, "from_": "<sip:us@192.0.2.10>"}
        call = sought(
            id=CALL,
            conversation_id=CONVERSATION,
            plan=self.plan,
            identity=IDENTITY,
            tag=TAG,
            search=Search.of(targets or (BOB,), CALL[5:], **how),
            now=self.now,
        )
        call.link = link
        if actions:
            call.list = ActionList.of("originated", [Step(call.new_action_id(), each) for each in actions])
        self.begin(call)

    @classmethod
    def around(cls, call: Call) -> Calling:
        """A bench for a call that another process has carried so far."""
        bench = cls()
        bench.call, bench.effects = call, []
        return bench

    def located(self, number: int = 1, *hosts: str) -> list[CallEffect]:
        found = [place(f"192.0.2.{number + 1}") for _ in range(1)] if not hosts else [place(host) for host in hosts]
        return self.give(Located(number, found))

    def begins(self) -> None:
        """Ports are there, and every target that is due is found."""
        self.give(MediaOpened("192.0.2.10", 20000))
        for attempt in list(self.call.search.attempts) if self.call.search is not None else []:
            self.located(attempt.number)

    def progress(self, status: int, body: str = "", *, number: int = 1, tag: str = "b1") -> list[CallEffect]:
        return self.give(Progressed(number, self.response(status, body, number=number, tag=tag)))

    def accept(self, body: str | None = None, *, number: int = 1, tag: str = "b1") -> list[CallEffect]:
        response = self.response(200, bobs(number) if body is None else body, number=number, tag=tag)
        way = FLOW._replace(host=f"192.0.2.{number + 1}", port=5060)
        return self.give(InviteAnswered(number, response, Dialog.as_client(self.sent(number), response, way)))

    def refuse(
        self, status: int, *, number: int = 1, proof: tuple[Line, ...] | None = None, extra: str = ""
    ) -> list[CallEffect]:
        return self.give(InviteRefused(number, self.response(status, number=number, extra=extra), proof))

    def fail(self, code: int = 408, *, number: int = 1) -> list[CallEffect]:
        return self.give(InviteFailed(number, code, "Request Timeout", "unreachable"))

    def sent(self, number: int = 1) -> Request:
        """The INVITE of an attempt, as far as its dialog needs it."""
        search = self.call.search
        attempt = search.attempt(number) if search is not None else None
        assert attempt is not None
        text = (
            f"INVITE {attempt.target.uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-{number}\r\n"
            f"From: <sip:us@192.0.2.10>;tag={TAG}\r\nTo: <{attempt.target.uri}>\r\nCall-ID: {attempt.sip_call_id}\r\n"
            f"CSeq: {attempt.sequence or 1} INVITE\r\nMax-Forwards: 70\r\nContact: <sip:192.0.2.10>\r\nContent-Length: 0\r\n\r\n"
        )
        parsed = parse_message(text.encode())
        assert isinstance(parsed, Request), parsed
        return parsed

    def response(self, status: int, body: str = "", *, number: int = 1, tag: str = "b1", extra: str = "") -> Response:
        invite = self.sent(number)
        return response(
            status,
            body,
            to=f"{invite.headers.get('To')};tag={tag}",
            call_id=invite.call_id,
            sequence=invite.cseq.number,
            extra=extra,
        )


def response(
    status: int,
    body: str = "",
    *,
    to: str = "<sip:bob@192.0.2.2>;tag=b1",
    call_id: str = "c1@192.0.2.1",
    sequence: int = 1,
    extra: str = "",
) -> Response:
    """What a far end answers to an INVITE of ours."""
    kind = "Content-Type: application/sdp\r\n" if body else ""
    text = (
        f"SIP/2.0 {status} Whatever\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-x\r\n"
        f"From: <sip:us@192.0.2.10>;tag={TAG}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {sequence} INVITE\r\n"
        f"Contact: <sip:bob@192.0.2.2:5060>\r\n{extra}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
    )
    parsed = parse_message(text.encode())
    assert isinstance(parsed, Response), parsed
    return parsed


def place(host: str) -> Place:
    return Place(f"sip:bob@{host}:5060", Flow("udp", "udp:5060", host, 5060))


def bobs(number: int = 1, *, formats: str = "0 101", direction: str = "sendrecv") -> str:
    """The description of the party that attempt `number` reaches."""
    return sdp(5000 + number, address=f"192.0.2.{number + 1}", formats=formats, direction=direction)


def speaks(formats: str = "0 101", *, direction: str = "sendrecv") -> Negotiated:
    """What another call has agreed on with its far end."""
    offered = parse(bobs(formats=formats, direction=direction).encode())
    assert isinstance(offered, SessionDescription)
    taken = answer(offered, LocalEnd("192.0.2.10", 20002, 7, 1))
    assert isinstance(taken, Answered)
    return taken.negotiated


def dialed_by(*, end_with_peer: bool = True) -> Link:
    """The link of a party, to the call that dials it."""
    return Link(PEER, "dial", asked=False, action_id=DIALED, end_with_peer=end_with_peer)


# What we call, in every state within its phases that a snapshot must keep


def wanted() -> Calling:
    return Calling(BOB, CAROL, link=dialed_by())


def looked_for() -> Calling:
    bench = wanted()
    bench.give(MediaOpened("192.0.2.10", 20000))
    return bench


def inviting() -> Calling:
    bench = Calling(Target(BOB.uri, headers={"X-A": ("1",)}), CAROL, actions=(Dial(to=(BOB,)), Park(timeout_s=9)))
    bench.begins()
    return bench


def one_after_the_other() -> Calling:
    bench = Calling(BOB, CAROL, fork="serial", on_redirect="report", timeout_s=20.0, link=dialed_by())
    bench.begins()
    bench.refuse(486)
    bench.located(2)
    return bench


def challenged() -> Calling:
    bench = Calling(BOB)
    bench.begins()
    bench.refuse(401, proof=(("Authorization", 'Digest username="bob"'),))
    return bench


def redirected() -> Calling:
    bench = Calling(BOB)
    bench.begins()
    bench.refuse(302, extra=f"Contact: <{CAROL.uri}>\r\n")
    return bench


def party_ringing() -> Calling:
    bench = Calling(BOB, CAROL, link=dialed_by())
    bench.begins()
    bench.progress(180)
    return bench


def early() -> Calling:
    bench = Calling(BOB, CAROL, link=dialed_by(end_with_peer=False))
    bench.begins()
    bench.progress(183, bobs())
    return bench


def party_accepted() -> Calling:
    bench = party_ringing()
    bench.accept()
    return bench


def unusable() -> Calling:
    """It has answered with nothing that we speak: BYE has to wait for our ACK."""
    bench = party_ringing()
    bench.accept(bobs(formats="18"))
    return bench


def party_answered() -> Calling:
    bench = party_accepted()
    bench.give(AckSent())
    return bench


def party_joined() -> Calling:
    bench = party_answered()
    bench.give(Joined(speaks()))
    return bench


def party_holding() -> Calling:
    bench = party_joined()
    bench.command(Hold())
    return bench


def nobody() -> Calling:
    bench = Calling(BOB)
    bench.begins()
    bench.refuse(404)
    bench.give(MediaClosed(None))
    return bench


# What calls us, and is brought together with another call


def dialing() -> Bench:
    bench = Bench()
    bench.decide(Dial(to=(BOB,), client_state="theirs"), Pause(seconds=3))
    return linked(bench, "dial")


def linked(bench: Bench, how: str) -> Bench:
    """As the node does it once it has made the party's call."""
    name = bench.call.list.current.action_id if bench.call.list is not None and bench.call.list.current else DIALED
    bench.call.link = Link(PEER, "dial" if how == "dial" else "join", asked=True, action_id=name, end_with_peer=True)
    return bench


def hears_ringing() -> Bench:
    bench = dialing()
    bench.give(PeerRinging())
    return bench


def hears_early_media() -> Bench:
    bench = dialing()
    bench.give(PeerMedia(speaks()))
    bench.give(MediaOpened("192.0.2.10", 20000))
    return bench


def answered_because() -> Bench:
    """The party has answered, and so the caller is being answered."""
    bench = dialing()
    bench.give(PeerAnswered(speaks()))
    return bench


def answered_before() -> Bench:
    """`answer_caller: now`: the caller is answered, and nobody is found yet."""
    bench = Bench()
    bench.decide(Dial(to=(BOB,), answer_caller="now"), Pause(seconds=3))
    return linked(bench, "dial")


def nobody_found() -> Bench:
    bench = dialing()
    bench.give(PeerFailed(486, "Busy Here"))
    return bench


def answered_and_dialing() -> Bench:
    bench = answered()
    bench.command(Dial(to=(BOB,)))
    return linked(bench, "dial")


def asking_to_join() -> Bench:
    bench = answered()
    bench.command(Join(call_id=PEER))
    return bench


def linked_with() -> Bench:
    """Linked with a call that speaks another codec; it is being asked for that one."""
    bench = asking_to_join()
    assert bench.call.list is not None
    assert bench.call.list.current is not None
    name = bench.call.list.current.action_id
    bench.give(Linked(Link(PEER, "join", asked=True, action_id=name, end_with_peer=False), speaks("8 101")))
    bench.give(CodecWanted(speaks("8 101")))
    return bench


def joined() -> Bench:
    bench = linked_with()
    bench.give(ReinviteAnswered(response(200, sdp(formats="8 101"))))
    bench.give(Joined(speaks("8 101")))
    return bench


def asking() -> Bench:
    """Its far end wants its partner to be connected with somebody else, and nobody has decided."""
    bench = joined()
    bench.give(Referred(Referral("sip:carol@192.0.2.3", 5, True, partner=PEER)))
    return bench


def referring() -> Bench:
    """Its partner is being connected with somebody else."""
    bench = asking()
    bench.give(ReferralDecided(AcceptTransfer()))
    return bench


def fetching() -> Bench:
    """The same in the place of another call, which is somewhere."""
    bench = joined()
    bench.give(
        Referred(Referral("sip:carol@192.0.2.3", 5, True, replaces=THIRD, dialog="x;to-tag=1;from-tag=2", partner=PEER))
    )
    bench.give(ReferralDecided(AcceptTransfer()))
    return bench


def told_the_outcome() -> Bench:
    """They hear each other, and its far end has not heard so."""
    bench = referring()
    bench.give(ReferralNews(200, "OK"))
    return bench


def referred() -> Bench:
    """Its partner's far end has it connected with somebody else, who is being sought."""
    bench = joined()
    bench.give(PartnerReferred(PEER, DIALED, "sip:carol@192.0.2.3", 60.0, {}, None, ""))
    replacement = bench.call.replacement
    assert replacement is not None
    replacement.party = THIRD
    bench.call.link = Link(THIRD, "dial", asked=True, action_id=DIALED, end_with_peer=True)
    return bench


def muted() -> Bench:
    bench = joined()
    bench.command(Mute())
    return bench


def holding() -> Bench:
    """Our re-INVITE is under way."""
    bench = answered()
    bench.command(Hold())
    return bench


def after_a_glare() -> Bench:
    bench = holding()
    bench.give(ReinviteRefused(491, "Request Pending", 0.5))
    return bench


def on_hold() -> Bench:
    bench = holding()
    bench.give(ReinviteAnswered(response(200, sdp(direction="recvonly", formats="0 101"))))
    return bench


def answered_now_and_listed() -> Bench:
    bench = Bench()
    bench.decide(Answer(), Dial(to=(BOB, CAROL), fork="serial", from_="sip:x@192.0.2.10", end_with_peer=False))
    return bench


OUTGOING: dict[str, Callable[[], Bench]] = {
    make.__name__: make
    for make in (
        wanted,
        looked_for,
        inviting,
        one_after_the_other,
        challenged,
        redirected,
        party_ringing,
        early,
        party_accepted,
        unusable,
        party_answered,
        party_joined,
        party_holding,
        nobody,
    )
}
TOGETHER: dict[str, Callable[[], Bench]] = {
    make.__name__: make
    for make in (
        dialing,
        hears_ringing,
        hears_early_media,
        answered_because,
        answered_before,
        nobody_found,
        answered_and_dialing,
        asking_to_join,
        linked_with,
        joined,
        asking,
        referring,
        fetching,
        told_the_outcome,
        referred,
        muted,
        holding,
        after_a_glare,
        on_hold,
        answered_now_and_listed,
    )
}
