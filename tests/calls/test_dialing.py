"""What each response to an INVITE of ours makes of the call, and of the other attempts."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Dial, Hangup
from bridge.calls.call import Phase, Plan
from bridge.calls.effects import (
    Acknowledge,
    ArmTimer,
    CallTimer,
    CancelInvite,
    DisarmTimer,
    Locate,
    OpenMedia,
    SendInvite,
    SendRequest,
    Tell,
)
from bridge.calls.facts import Ended
from bridge.calls.inputs import AckSent, ByeReceived, Elapsed, InviteFailed, Located, MediaOpened, MediaRefused
from bridge.calls.peering import PeerAnswered, PeerFailed, PeerMedia, PeerRinging
from bridge.calls.search import Stage
from tests.calls.outgoing import (
    BOB,
    CAROL,
    PEER,
    Calling,
    bobs,
    dialed_by,
    early,
    inviting,
    looked_for,
    party_accepted,
    party_ringing,
    place,
    unusable,
)

ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'


def stages(bench: Calling) -> list[Stage]:
    assert bench.call.search is not None
    return [each.stage for each in bench.call.search.attempts]


def test_ports_before_anybody_is_looked_for() -> None:
    bench = Calling(BOB, CAROL)
    assert bench.all(OpenMedia)
    assert bench.all(Locate) == []
    bench.give(MediaOpened("192.0.2.10", 20000))
    assert bench.all(Locate) == [Locate(1), Locate(2)]
    bench.located(1)
    assert bench.all(SendInvite) == [SendInvite(1, 1)]


def test_without_ports_nobody_is_called() -> None:
    bench = Calling(BOB)
    bench.give(MediaRefused())
    assert bench.call.ended == Ended("policy", "overload", 503, "Service Unavailable")
    assert bench.types == ["call.initiated", "call.ended"]


def test_all_contacts_of_an_address_of_record_are_called_at_once() -> None:
    bench = Calling(BOB, fork="serial")
    bench.give(MediaOpened("192.0.2.10", 20000))
    bench.located(1, "192.0.2.2", "192.0.2.3", "192.0.2.4")
    assert bench.all(SendInvite) == [SendInvite(1, 1), SendInvite(2, 1), SendInvite(3, 1)]


def test_where_a_target_is_matters_once() -> None:
    bench = inviting()
    before = len(bench.all(SendInvite))
    bench.located(1)
    assert len(bench.all(SendInvite)) == before


@pytest.mark.parametrize(
    ("status", "told"),
    [(100, []), (180, [PeerRinging()]), (181, []), (182, []), (183, []), (199, [])],
)
def test_what_a_provisional_response_tells(status: int, told: list[object]) -> None:
    bench = Calling(BOB, link=dialed_by())
    bench.begins()
    bench.progress(status)
    assert [effect.given for effect in bench.all(Tell)] == told
    assert stages(bench) == [Stage.PROCEEDING]
    assert (bench.types == ["call.initiated", "call.ringing"]) is bool(told)


def test_ringing_is_told_once() -> None:
    bench = party_ringing()
    bench.progress(180)
    bench.progress(180, number=2, tag="c1")
    assert bench.types.count("call.ringing") == 1
    assert len(bench.all(Tell)) == 1


def test_the_first_early_media_is_heard_and_no_other() -> None:
    bench = early()
    assert bench.call.negotiated is not None
    bench.progress(183, bobs(2, formats="8 101"), number=2, tag="c1")
    bench.progress(183, bobs(formats="8 101"), tag="b2")
    assert bench.call.negotiated.remote_host == "192.0.2.2"
    assert [type(effect.given) for effect in bench.all(Tell)] == [PeerMedia]


def test_the_winner_is_heard_whoever_was_early() -> None:
    bench = early()
    bench.accept(number=2, tag="c1")
    assert bench.call.negotiated is not None
    assert bench.call.negotiated.remote_host == "192.0.2.3"
    assert bench.call.media_generation == 2
    assert bench.all(CancelInvite) == [CancelInvite(1, 1, ELSEWHERE)]


@pytest.mark.parametrize(
    ("number", "tag", "understood"),
    [(1, "b1", True), (1, "b2", False), (2, "c1", False)],
    ids=["the same party", "another branch of the fork", "another target"],
)
def test_a_2xx_without_an_answer_means_the_early_one_of_its_own_dialog(number: int, tag: str, understood: bool) -> None:
    """§13.2.1: whoever has answered early need not repeat it; what somebody else has answered is not theirs."""
    bench = early()
    bench.accept("", number=number, tag=tag)
    assert (bench.call.answered_at is not None) is understood
    assert (bench.call.hangup_wanted is None) is understood


def test_the_answer_ends_the_search() -> None:
    bench = party_ringing()
    effects = bench.accept(number=2, tag="c1")
    assert CancelInvite(1, 1, ELSEWHERE) in effects
    disarmed = [effect.timer for effect in effects if isinstance(effect, DisarmTimer)]
    assert disarmed == [CallTimer.SEARCH, CallTimer.RING_LIMIT]
    assert Acknowledge(1) in effects
    assert [type(effect.given) for effect in effects if isinstance(effect, Tell)] == [PeerAnswered]
    assert (bench.call.state, bench.call.phase) == ("answered", Phase.ACCEPTED)


def test_only_the_first_answer_counts() -> None:
    bench = party_accepted()
    assert bench.accept(number=2, tag="c1") == []


def test_a_late_answer_of_an_attempt_that_has_been_given_up_still_has_the_party() -> None:
    """The CANCEL has crossed it (§9.1), and somebody is there."""
    bench = Calling(BOB, CAROL, fork="serial", timeout_s=20.0)
    bench.begins()
    bench.progress(180)
    bench.now += 20.0
    bench.give(Elapsed(CallTimer.SEARCH))
    assert CancelInvite(1, 1, None) in bench.effects
    bench.accept()
    assert bench.call.phase is Phase.ACCEPTED
    assert stages(bench) == [Stage.ANSWERED, Stage.FAILED]


def test_a_bye_waits_for_our_ack() -> None:
    bench = unusable()
    assert bench.all(SendRequest) == []
    bench.give(AckSent())
    assert [effect.method for effect in bench.all(SendRequest)] == ["BYE"]
    assert bench.call.ended == Ended("policy", "not_acceptable")
    assert bench.all(Tell)[-1].given == PeerFailed(488, "")


def test_a_party_that_hangs_up_before_our_ack_has_hung_up() -> None:
    bench = party_accepted()
    bench.give(ByeReceived(None))
    assert bench.call.ended == Ended("remote", "hangup")


def test_a_refusal_of_all_ends_it_with_the_best() -> None:
    bench = Calling(BOB, CAROL, link=dialed_by())
    bench.begins()
    bench.refuse(486)
    assert bench.call.ended is None
    bench.refuse(404, number=2)
    assert bench.call.ended == Ended("remote", "not_found", 404, "Whatever")
    assert bench.types.count("call.attempt_failed") == 2
    assert bench.all(Tell) == [Tell(PEER, PeerFailed(404, "Whatever"))]


@pytest.mark.parametrize(("code", "told"), [(500, PeerFailed(500, "Whatever")), (503, PeerFailed(500, ""))])
def test_that_another_service_is_overloaded_is_not_said_of_ours(code: int, told: PeerFailed) -> None:
    """§16.7 step 6."""
    bench = Calling(BOB, link=dialed_by())
    bench.begins()
    bench.refuse(code)
    assert bench.all(Tell) == [Tell(PEER, told)]


def test_a_6xx_speaks_for_the_party() -> None:
    bench = Calling(BOB, CAROL)
    bench.begins()
    bench.progress(180, number=2)
    bench.refuse(603)
    assert bench.all(CancelInvite) == [CancelInvite(2, 1, None)]
    assert bench.types.count("call.attempt_failed") == 1
    assert bench.call.ended == Ended("remote", "declined", 603, "Whatever")


PROOF = (("Authorization", "Digest x"),)


def test_a_challenge_is_answered_twice_at_most() -> None:
    bench = Calling(BOB)
    bench.begins()
    bench.refuse(401, proof=PROOF)
    bench.refuse(401, proof=PROOF)
    assert bench.all(SendInvite) == [SendInvite(1, 1), SendInvite(1, 2), SendInvite(1, 3)]
    bench.refuse(401, proof=PROOF)
    assert bench.call.ended == Ended("remote", "unauthorized", 401, "Whatever")


def test_an_attempt_that_is_proven_has_no_more_time() -> None:
    bench = Calling(BOB, timeout_s=20.0)
    bench.begins()
    bench.now += 15.0
    effects = bench.refuse(401, proof=PROOF)
    assert ArmTimer(CallTimer.SEARCH, 5.0) in effects


def test_what_was_given_up_is_not_proven() -> None:
    bench = Calling(BOB, CAROL, timeout_s=20.0, fork="serial")
    bench.begins()
    bench.progress(180)
    bench.now += 20.0
    bench.give(Elapsed(CallTimer.SEARCH))
    assert SendInvite(1, 2) not in bench.refuse(401, proof=PROOF)


def test_whom_nobody_reaches() -> None:
    bench = Calling(BOB)
    bench.begins()
    bench.fail(503)
    assert bench.call.ended == Ended("network", "unreachable", 503, "Request Timeout")


def test_time_is_up_for_those_who_have_been_called() -> None:
    """A target whose address is still being looked up has not begun to ring."""
    bench = Calling(BOB, CAROL, timeout_s=20.0)
    bench.give(MediaOpened("192.0.2.10", 20000))
    bench.located(1)
    bench.progress(180)
    bench.now += 20.0
    bench.give(Elapsed(CallTimer.SEARCH))
    assert stages(bench) == [Stage.FAILED, Stage.LOCATING]
    bench.located(2)
    assert SendInvite(2, 1) in bench.effects


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        (0, Ended("network", "unreachable", 408, "Request Timeout")),
        (180, Ended("local", "no_answer", 408, "Request Timeout")),
    ],
)
def test_why_time_was_up(status: int, ended: Ended) -> None:
    bench = Calling(BOB, timeout_s=20.0)
    bench.begins()
    if status:
        bench.progress(status)
    bench.now += 20.0
    bench.give(Elapsed(CallTimer.SEARCH))
    assert bench.call.ended == ended
    assert bench.all(CancelInvite) == [CancelInvite(1, 1, None)]


def test_nobody_is_sought_for_longer_than_the_plan_allows() -> None:
    bench = Calling(BOB, plan=Plan("front-desk", ring_limit_s=5.0))
    bench.begins()
    bench.give(Elapsed(CallTimer.RING_LIMIT))
    assert bench.call.ended == Ended("policy", "no_answer", 408, "Request Timeout")


@pytest.mark.parametrize(("own", "limit"), [(None, 100.0), (30.0, 30.0), (500.0, 100.0)])
def test_the_shorter_limit_of_its_duration_holds(own: float | None, limit: float) -> None:
    bench = Calling(BOB, plan=Plan("front-desk", duration_limit_s=100.0))
    bench.call.max_duration_s = own
    bench.begins()
    assert ArmTimer(CallTimer.DURATION_LIMIT, limit) in bench.accept()


def test_what_it_was_originated_with_begins_with_the_answer() -> None:
    bench = Calling(BOB, actions=(Hangup(),))
    bench.begins()
    bench.progress(180)
    assert bench.call.ended is None
    bench.accept()
    assert bench.call.ended is None
    bench.give(AckSent())
    assert bench.call.ended == Ended("local", "hangup")


def test_a_hang_up_that_is_asked_for_does_not_wait() -> None:
    bench = Calling(BOB, actions=(Dial(to=(CAROL,)),))
    bench.begins()
    bench.progress(180)
    bench.command(Hangup(), listed=True)
    assert bench.call.ended == Ended("local", "canceled", 487, "Request Terminated")
    assert bench.all(CancelInvite) == [CancelInvite(1, 1, None)]


def test_late_news_of_an_ended_search_changes_nothing() -> None:
    bench = looked_for()
    bench.command(Hangup())
    for given in (
        Located(1, (place("192.0.2.2"),)),
        InviteFailed(1, 503, "Gone", "unreachable"),
        Elapsed(CallTimer.SEARCH),
    ):
        assert bench.give(given) == []
