"""Which action fits which state, and that nothing a call can meet in any state is too much for it."""

from __future__ import annotations

from typing import get_args

import pytest

from bridge.calls.actions import (
    Action,
    Answer,
    Dial,
    Hangup,
    Hold,
    Join,
    Leave,
    Mute,
    Park,
    Pause,
    Proxy,
    Redirect,
    Reject,
    Ring,
    Transfer,
    Unhold,
    Unmute,
)
from bridge.calls.call import Call, Link, Phase
from bridge.calls.effects import (
    Accept,
    ActionsAccepted,
    ActionsRefused,
    ArmTimer,
    CallTimer,
    DisarmTimer,
    Emit,
    Finished,
    JoinWith,
    Locate,
    MoveOut,
    OpenMedia,
    Respond,
    Seek,
    SendInvite,
    SendReinvite,
    SendRequest,
    SetMedia,
)
from bridge.calls.events import ActionCanceled, ActionFailed, CallEnded
from bridge.calls.facts import ActionId, Contact, Move, Quality
from bridge.calls.inputs import (
    AcceptSent,
    Acknowledged,
    AckSent,
    ByeReceived,
    CallInput,
    CancelReceived,
    CarriedOn,
    CodecWanted,
    Commanded,
    Decided,
    DialogFound,
    DialogMissing,
    DialRefused,
    Drained,
    Elapsed,
    EventsExhausted,
    InviteAnswered,
    InviteDeclined,
    InviteFailed,
    InviteLost,
    InviteRefused,
    Joined,
    JoinImpossible,
    JoinRefused,
    KeyPressed,
    Linked,
    Located,
    MediaClosed,
    MediaGone,
    MediaOpened,
    MediaRefused,
    MediaSilent,
    Notified,
    NotifyAnswered,
    NotifyLost,
    Parted,
    Pracked,
    Progressed,
    ReferAnswered,
    ReferralDecided,
    ReferralUndecided,
    Referred,
    ReferRefused,
    ReferRepeated,
    ReferSent,
    ReinviteAnswered,
    ReInvited,
    ReinviteRefused,
    ReplacedHere,
    ReplacedMissing,
    ReplyUnusable,
    StoreTooLate,
    Unacknowledged,
    Undecided,
    Unpracked,
    UpdateAnswered,
    Updated,
    UpdateRefused,
)
from bridge.calls.passage import (
    AnsweredAfterAll,
    CopyAnswered,
    CopyLocated,
    CopySilent,
    CopyUndeliverable,
    PassageOpened,
    PassageRefused,
    PassageTakenUp,
    TargetsFound,
)
from bridge.calls.peering import (
    DialogReplaced,
    PartnerReferred,
    PeerAnswered,
    PeerFailed,
    PeerGone,
    PeerMedia,
    PeerRinging,
    ReferralNews,
    ReferrerBack,
    ReferrerGone,
)
from bridge.calls.referral import AcceptTransfer, Referral, RejectTransfer
from bridge.sip.dialog import Dialog
from bridge.sip.refer import Notice
from bridge.sip.target_set import Target as ProxyTarget
from bridge.sip.transaction import server_key
from tests.calls.bench import FLOW, STATES, TAG, answered, message, parked
from tests.calls.outgoing import (
    BOB,
    DIALED,
    OUTGOING,
    PEER,
    THIRD,
    TOGETHER,
    Calling,
    bobs,
    place,
    response,
    speaks,
)
from tests.engine.world import OFFER, UNUSABLE, request, sdp

ALL = STATES | OUTGOING | TOGETHER
ACTIONS: list[Action] = [
    Ring(),
    Answer(),
    Reject(),
    Redirect(contacts=(Contact("sip:bob@192.0.2.2"),)),
    Proxy(),
    Pause(),
    Park(),
    Hangup(),
    Dial(to=(BOB,)),
    Join(call_id=PEER),
    Leave(),
    Hold(),
    Unhold(),
    Mute(),
    Unmute(),
    Transfer(to="sip:carol@192.0.2.4"),
]
REINVITE = message(request("INVITE", sequence=7, sdp=OFFER, to_tag=TAG))
UPDATE = message(request("UPDATE", sequence=2, sdp=OFFER, to_tag=TAG))
REFRESH = message(request("UPDATE", sequence=3, to_tag=TAG))
INVITE = Calling(BOB).sent()
REFER = message(request("REFER", sequence=5, to_tag=TAG))
PRACK = message(request("PRACK", sequence=4, to_tag=TAG, extra="RAck: 1 1 INVITE\r\n"))
NOTIFY = message(request("NOTIFY", sequence=4, to_tag=TAG))
NEWS = ((False, None), (True, None), (False, 180), (True, 200), (True, 486))
INPUTS: list[CallInput] = [
    Decided(()),
    Decided((Answer(), Hangup())),
    Undecided("no_reply", "nothing came"),
    ReplyUnusable("nonsense", "actions"),
    *(Commanded((action,), listed=False) for action in ACTIONS),
    Commanded((Ring(), Pause(), Answer(), Reject()), listed=True),
    AcceptSent(),
    Acknowledged(1, message(request("ACK", sdp=OFFER, to_tag=TAG))),
    Acknowledged(2, message(request("ACK", sequence=2, sdp=UNUSABLE, to_tag=TAG))),
    Unacknowledged(),
    ByeReceived(None),
    CancelReceived(26),
    ReInvited(server_key(REINVITE), REINVITE),
    *(Updated(server_key(each), each) for each in (UPDATE, REFRESH)),
    MediaOpened("192.0.2.10", 20000),
    MediaOpened("192.0.2.10", 20002, video=True),
    MediaRefused(),
    MediaRefused(video=True),
    MediaClosed(Quality()),
    MediaClosed(None),
    MediaSilent(),
    CarriedOn(Move("n1", "n2", 0.0)),
    MediaGone(),
    StoreTooLate(),
    EventsExhausted(),
    Drained(),
    *(Elapsed(timer) for timer in CallTimer),
    Located(1, (place("192.0.2.2"),)),
    Located(2, (place("192.0.2.3"), place("192.0.2.4"))),
    *(Progressed(1, response(status)) for status in (100, 180, 183)),
    Progressed(1, response(183, bobs())),
    Progressed(2, response(183, bobs(2, formats="8 101"), to="<sip:carol@192.0.2.3>;tag=c1")),
    Progressed(9, response(180)),
    *(InviteAnswered(1, each, Dialog.as_client(INVITE, each, FLOW)) for each in (response(200, bobs()), response(200))),
    InviteAnswered(9, response(200), Dialog.as_client(INVITE, response(200), FLOW)),
    InviteRefused(1, response(486), None),
    InviteRefused(1, response(407), (("Proxy-Authorization", "Digest"),)),
    InviteRefused(1, response(302, extra="Contact: <sip:dave@192.0.2.5>\r\n"), None),
    InviteRefused(2, response(603), None),
    InviteFailed(1, 408, "Request Timeout", "unreachable"),
    InviteLost(1),
    InviteDeclined(1),
    AckSent(),
    ReinviteAnswered(response(200, sdp(direction="recvonly", formats="0 101"))),
    ReinviteAnswered(response(200)),
    UpdateAnswered(response(200)),
    UpdateRefused(None),
    *(UpdateRefused(response(code)) for code in (405, 481, 491)),
    *(ReinviteRefused(code, "Whatever", 0.5) for code in (401, 408, 481, 488, 491)),
    Linked(Link(PEER, "join", asked=False, action_id=DIALED, end_with_peer=True), None),
    Linked(Link(PEER, "join", asked=True, action_id=DIALED, end_with_peer=False), speaks("8 101")),
    JoinRefused(DIALED, "not_found", "nobody"),
    DialRefused(DIALED, "there are 2 calls already"),
    Joined(speaks()),
    CodecWanted(speaks("8 101")),
    JoinImpossible("nothing in common"),
    KeyPressed("5", 120, "rfc4733"),
    DialogFound(ActionId("act_x"), "sip:bob@192.0.2.2", "b;to-tag=1;from-tag=2"),
    DialogMissing(ActionId("act_x"), "not_found", "it is not alive here"),
    Parted(),
    ReferSent(2),
    ReferAnswered(202, "Accepted"),
    ReferRefused(403, "Forbidden"),
    ReferRefused(481, "Call/Transaction Does Not Exist"),
    *(Notified(server_key(NOTIFY), NOTIFY, Notice(None, over, status, "Said")) for over, status in NEWS),
    *(Referred(Referral(BOB.uri, 6, each, partner=PEER)) for each in (True, False)),
    ReferRepeated(server_key(REFER), REFER),
    *(ReferralDecided(each) for each in (AcceptTransfer(), AcceptTransfer(to="sip:x@192.0.2.9"), RejectTransfer())),
    ReferralUndecided("no_reply", "nothing came"),
    ReplacedHere(DIALED),
    ReplacedMissing(DIALED),
    *(NotifyAnswered(each) for each in (200, 481)),
    NotifyLost(),
    *(PartnerReferred(PEER, DIALED, BOB.uri, 60.0, {}, each, "") for each in (None, THIRD)),
    *(ReferralNews(code, "Said", agreed) for code in (180, 200, 486) for agreed in (None, speaks())),
    ReferralNews(487, "Request Terminated", ended=True),
    ReferrerGone(),
    ReferrerBack([PEER, "join", True, DIALED, True], speaks()),
    ReferrerBack(None, None),
    DialogReplaced(),
    PeerRinging(),
    PeerMedia(speaks()),
    PeerAnswered(speaks()),
    PeerFailed(486, "Busy Here"),
    PeerGone(ended=True),
    PeerGone(ended=False),
    Pracked(server_key(PRACK), PRACK),
    Unpracked(),
    PassageOpened("0123456789abcdef", 60),
    PassageRefused(483, "Too Many Hops"),
    TargetsFound(((ProxyTarget("sip:bob@192.0.2.2"), None), (ProxyTarget("sip:bob@192.0.2.2"), FLOW))),
    TargetsFound(()),
    TargetsFound(None),
    CopyLocated(0, FLOW),
    CopyLocated(9, FLOW),
    *(CopyAnswered(0, response(status)) for status in (100, 180, 200, 302, 486, 603)),
    CopyAnswered(9, response(180)),
    CopySilent(0),
    CopyUndeliverable(0),
    CopyUndeliverable(9),
    PassageTakenUp(),
    AnsweredAfterAll(response(200), "sip:bob@192.0.2.2"),
]
QUIET = (Emit, OpenMedia, SetMedia, SendRequest, Accept, SendInvite, SendReinvite, Locate, Seek, JoinWith, MoveOut)


@pytest.mark.parametrize("state", ALL)
def test_whatever_comes_in_whatever_state(state: str) -> None:
    """Whatever follows, the call ends exactly once, and says nothing more after that."""
    for given in INPUTS:
        check(state, given)


def check(state: str, given: CallInput) -> None:
    bench = ALL[state]()
    bench.give(given)
    bench.give(given)
    if not bench.call.is_over:
        bench.give(MediaGone())
    if not bench.call.is_over:  # it may have to wait for an ACK: theirs, or ours
        bench.give(Unacknowledged() if bench.call.search is None else AckSent())
    bench.give(MediaClosed(None))
    bench.give(given)
    assert bench.call.phase is Phase.ENDED, given
    assert len(bench.all(Finished)) == 1
    assert sum(isinstance(event, CallEnded) for event in bench.events) == 1
    after = bench.effects[bench.effects.index(bench.all(Finished)[0]) + 1 :]
    assert [effect for effect in after if isinstance(effect, QUIET)] == [], given


def test_every_input_is_among_them() -> None:
    assert {type(given) for given in INPUTS} == set(get_args(CallInput))


# Which state each bench is in, as far as a command is concerned
OVER = {"ending", "ended", "refused", "nobody"}
SOUGHT = {
    "wanted",
    "looked_for",
    "inviting",
    "one_after_the_other",
    "challenged",
    "redirected",
    "party_ringing",
    "early",
}
BEFORE_ANSWER = {
    "unanswered",
    "parked",
    "passed_on",
    "listed",
    "falling_back",
    "dialing",
    "hears_ringing",
    "hears_early_media",
    "nobody_found",
}
BEFORE_ACK = {
    "answering",
    "accepted",
    "delayed",
    "sent",
    "hanging_up",
    "answered_because",
    "answered_before",
    "answered_now_and_listed",
    "party_accepted",
    "unusable",
}
JOINED = {"joined", "asking", "fetching", "muted", "party_joined", "party_holding"}
LINKED = JOINED | {
    "dialing",
    "hears_ringing",
    "hears_early_media",
    "answered_because",
    "answered_before",
    "answered_and_dialing",
    "linked_with",
    "party_accepted",
    "unusable",
    "party_answered",
    "referred",
}
CHANGING = {"linked_with", "holding", "after_a_glare", "party_holding"}
UNFIT: dict[type[Action], set[str]] = {
    Ring: SOUGHT | (ALL.keys() - BEFORE_ANSWER),
    Answer: SOUGHT | (ALL.keys() - BEFORE_ANSWER),
    Reject: SOUGHT | (ALL.keys() - BEFORE_ANSWER),
    Redirect: SOUGHT | (ALL.keys() - BEFORE_ANSWER),
    Proxy: SOUGHT | (ALL.keys() - BEFORE_ANSWER),
    Dial: SOUGHT | LINKED,
    Leave: ALL.keys() - JOINED,
    Hold: SOUGHT | BEFORE_ANSWER | BEFORE_ACK | CHANGING,
    Unhold: SOUGHT | BEFORE_ANSWER | BEFORE_ACK | CHANGING,
    Transfer: SOUGHT | BEFORE_ANSWER | BEFORE_ACK | {"asking", "referring", "fetching", "told_the_outcome", "referred"},
    Hangup: set(),
}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
@pytest.mark.parametrize("state", ALL)
def test_which_command_fits_which_state(state: str, action: Action) -> None:
    bench = ALL[state]()
    effects = bench.command(action)
    refused = [effect.code for effect in effects if isinstance(effect, ActionsRefused)]
    if state in OVER:
        assert refused == ["ended"]
    elif state in UNFIT.get(type(action), SOUGHT):
        assert refused == ["wrong_state"]
        assert [type(effect) for effect in effects] == [ActionsRefused]
    else:
        assert refused == []
        assert sum(isinstance(effect, ActionsAccepted) for effect in effects) == 1


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
@pytest.mark.parametrize("state", ALL)
def test_every_accepted_action_is_told_of(state: str, action: Action) -> None:
    """By the time the call is over, an event has carried its name; a pause and a park need none when they are done, and a dial
    or a join is told by the other call."""
    bench = ALL[state]()
    bench.command(action)
    names = [name for effect in bench.all(ActionsAccepted) for name in effect.action_ids]
    bench.give(MediaGone())
    if not bench.call.is_over:
        bench.give(Unacknowledged() if bench.call.search is None else AckSent())
    bench.give(MediaClosed(None))
    told = [effect.caused_by for effect in bench.all(Emit)]
    if not isinstance(action, Pause | Park | Leave):
        assert set(names[-1:]) <= set(told)
    canceled = [event.action_id for event in bench.events if isinstance(event, ActionCanceled)]
    assert len(canceled) == len(set(canceled))


@pytest.mark.parametrize("state", ["answering", "accepted", "sent", "answered", "held"])
def test_a_refused_command_changes_nothing(state: str) -> None:
    bench, twin = STATES[state](), STATES[state]()
    assert [type(effect) for effect in bench.command(Reject())] == [ActionsRefused]
    assert facts(bench.call) == facts(twin.call)


def facts(call: Call) -> tuple[object, ...]:
    return call.phase, call.list, call.actions_made, call.wait_until, call.cause, call.sequence


def test_actions_are_named_after_their_call_and_counted() -> None:
    bench = parked()
    bench.command(Ring())
    bench.command(Pause(), Ring(), listed=True)
    names = [name for effect in bench.all(ActionsAccepted) for name in effect.action_ids]
    assert names == [f"act_{'a' * 24}_{number}" for number in (1, 2, 3)]


def test_a_list_tells_which_of_its_actions_does_not_fit() -> None:
    bench = answered()
    bench.command(Pause(seconds=0), Ring(), Hangup(), listed=True)
    bench.give(Elapsed(CallTimer.PAUSE))
    failed, canceled, *_ = [event for event in bench.events if event.type.startswith("action.")]
    assert isinstance(failed, ActionFailed)
    assert (failed.action, failed.code) == ("ring", "wrong_state")
    assert "this one is answered" in failed.detail
    assert isinstance(canceled, ActionCanceled)
    assert canceled.action == "hangup"


def test_timers_of_a_list_that_is_replaced_do_not_fire_into_the_next() -> None:
    bench = parked()
    effects = bench.command(Pause(seconds=5), listed=True)
    disarmed = {effect.timer for effect in effects if isinstance(effect, DisarmTimer)}
    assert {CallTimer.PARK, CallTimer.PARK_RING, CallTimer.PAUSE} <= disarmed


def test_a_parked_call_rings_again_each_minute() -> None:
    bench = parked()
    effects = bench.give(Elapsed(CallTimer.PARK_RING))
    assert [effect.response.status for effect in effects if isinstance(effect, Respond)] == [180]
    assert ArmTimer(CallTimer.PARK_RING, 60.0) in effects


def test_a_parked_call_that_is_answered_does_not_ring() -> None:
    bench = answered()
    effects = bench.command(Park(timeout_s=30))
    assert [effect for effect in effects if isinstance(effect, Respond)] == []
    assert ArmTimer(CallTimer.PARK, 30.0) in effects


def test_the_state_that_is_shown() -> None:
    assert {name: make().call.state for name, make in ALL.items()} == {
        "unanswered": "initiated",
        "parked": "ringing",
        "listed": "ringing",
        "falling_back": "ringing",
        "answering": "initiated",
        "accepted": "initiated",
        "delayed": "initiated",
        "sent": "initiated",
        "hanging_up": "initiated",
        "answered": "answered",
        "timed": "answered",
        "held": "answered",
        "moved": "answered",
        "ending": "answered",
        "ended": "ended",
        "refused": "ended",
        "wanted": "initiated",
        "looked_for": "initiated",
        "inviting": "initiated",
        "one_after_the_other": "initiated",
        "challenged": "initiated",
        "redirected": "initiated",
        "party_ringing": "ringing",
        "early": "initiated",
        "party_accepted": "answered",
        "unusable": "ringing",
        "party_answered": "answered",
        "party_joined": "answered",
        "party_holding": "answered",
        "nobody": "ended",
        "dialing": "initiated",
        "hears_ringing": "ringing",
        "hears_early_media": "initiated",
        "answered_because": "initiated",
        "answered_before": "initiated",
        "passed_on": "initiated",
        "nobody_found": "initiated",
        "answered_and_dialing": "answered",
        "asking_to_join": "answered",
        "linked_with": "answered",
        "joined": "answered",
        **dict.fromkeys(("asking", "referring", "fetching", "told_the_outcome", "referred"), "answered"),
        "muted": "answered",
        "holding": "answered",
        "after_a_glare": "answered",
        "on_hold": "answered",
        "answered_now_and_listed": "initiated",
    }
