"""A call as plain bytes, and back: in every phase of its life."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.calls import machine, snapshot
from bridge.calls.actions import Answer, Credentials, Target
from bridge.calls.answering import accepted_response
from bridge.calls.call import Call, Phase
from bridge.calls.effects import Accept, ActionsAccepted, CallTimer, Emit, Meet, SendReinvite
from bridge.calls.inputs import AcceptSent, Acknowledged, AckSent, Commanded, Elapsed, MediaOpened
from bridge.calls.search import InviteAttempt, Place, Stage
from bridge.calls.streams import rule_of
from bridge.sdp.codecs import OPUS, PCMU, Codec
from bridge.sdp.negotiated import Stream
from tests.calls.bench import (
    CALL,
    CONVERSATION,
    FLOW,
    STATES,
    TAG,
    Bench,
    accepted,
    hanging_up,
    listed,
    message,
    timed,
)
from tests.calls.outgoing import OUTGOING, TOGETHER, Calling, early, holding, inviting, party_accepted
from tests.engine.world import IDENTITY, OFFER, Sealing, request

ALL = STATES | OUTGOING | TOGETHER
# What only the process that carries a call knows: transactions, ports' figures, and what no heir needs.
_OWN = {
    "invite_key",
    "reinvite",
    "reinvite_key",
    "accept_sent",
    "out",
    "quality",
    "media_open",
    "dialog",
    "invite",
    "offer",
    "mirrored",  # made again of the offer of the call that dials
    "search",
    "reoffer",
    "shown",
    "unknown",
}

SEAL = Sealing()
VP8 = Codec("VP8", 90000, 1, 96)


def through_the_store(bench: Bench) -> Call:
    """The call as another process has it."""
    fixed = snapshot.read(snapshot.fixed(bench.call, bench.invite))
    variable = snapshot.read(snapshot.variable(bench.call))
    return revive(fixed, variable, bench)


def revive(fixed: dict[str, Any], variable: dict[str, Any], bench: Bench) -> Call:
    return snapshot.revive(
        id=CALL,
        conversation_id=CONVERSATION,
        fixed=fixed,
        variable=variable,
        plan=bench.plan,
        identity=IDENTITY,
        seal=SEAL,
    )


def shown(call: Call) -> dict[str, object]:
    seen = {name: getattr(call, name) for name in Call.__slots__ if name not in _OWN}
    return seen | {"passage": None if call.passage is None else call.passage.to_data()}


@pytest.mark.parametrize("state", ALL)
def test_a_call_survives_in_every_state(state: str) -> None:
    bench = ALL[state]()
    revived = through_the_store(bench)
    assert shown(revived) == shown(bench.call)
    assert snapshot.variable(revived) == snapshot.variable(bench.call)


@pytest.mark.parametrize("state", [name for name in ALL if ALL[name]().call.dialog is not None])
def test_its_dialog_survives(state: str) -> None:
    bench = ALL[state]()
    revived = through_the_store(bench)
    assert revived.dialog is not None
    assert bench.call.dialog is not None
    assert revived.dialog.to_data() == bench.call.dialog.to_data()


@pytest.mark.parametrize("state", OUTGOING)
def test_its_attempts_survive_field_by_field(state: str) -> None:
    bench = OUTGOING[state]()
    revived, known = through_the_store(bench).search, bench.call.search
    assert revived is not None
    assert known is not None
    assert (revived.fork, revived.on_redirect, revived.timeout_s, revived.from_) == (
        known.fork,
        known.on_redirect,
        known.timeout_s,
        known.from_,
    )
    names = InviteAttempt.__slots__
    assert [[getattr(each, name) for name in names] for each in revived.attempts] == [
        [getattr(each, name) for name in names] for each in known.attempts
    ]


def test_every_field_of_an_attempt_is_kept() -> None:
    bench = inviting()
    assert bench.call.search is not None
    attempt = bench.call.search.attempts[0]
    kept = {
        "target": Target("sip:x@192.0.2.9", Credentials("us", "secret", SEAL.seal("secret")), {"X-A": ("1", "2")}),
        "place": Place("sip:y@192.0.2.9", FLOW, ("<sip:p@192.0.2.8;lr>",), (FLOW._replace(port=5070), FLOW)),
        "way": 2,
        "stage": Stage.PROCEEDING,
        "sequence": 3,
        "expires_at": 1060.5,
        "challenges": 2,
        "proof": (("Authorization", "Digest x"),),
        "depth": 4,
        "code": 503,
        "reason": "Service Unavailable",
        "cause": ("network", "unreachable"),
        "heard": "b1",
        "sent_at": 1000.5,
        "sent_by": "192.0.2.10:5060",
        "given_up_at": 1001.5,
        "parent": 1,
        "turn": 2,
        "proxy": "sip:192.0.2.9",
        "reliable": True,
        "datagram_only": True,
        "rseqs": {"b1": 7},
        "pracked": 2,
    }
    for name, value in kept.items():
        setattr(attempt, name, value)
    assert kept.keys() | {"number", "sip_call_id"} == set(InviteAttempt.__slots__)
    revived = through_the_store(bench).search
    assert revived is not None
    assert {name: getattr(revived.attempts[0], name) for name in kept} == kept


def test_what_a_call_was_asked_for_with_survives() -> None:
    bench = inviting()
    call = bench.call
    call.tags, call.max_duration_s, call.max_forwards = ("a", "b"), 30.0, 12
    call.client_state, call.video_port = "mine", 20_002
    call.video_wanted = True
    assert shown(through_the_store(bench)) == shown(call)


def test_a_reinvite_of_ours_is_sent_again_as_it_was() -> None:
    bench = holding()
    assert bench.call.reoffer is not None
    bench.call.reoffer.sent, bench.call.reoffer.tries = True, 1
    revived = through_the_store(bench)
    assert revived.reoffer == replace(bench.call.reoffer, sent=False, tries=0)
    effects = machine.step(revived, Elapsed(CallTimer.GLARE), now=1003.0)
    assert SendReinvite() in effects


def test_early_media_is_still_heard_by_the_heir() -> None:
    bench = early()
    rules = [rule_of(call) for call in (bench.call, through_the_store(bench))]
    assert rules[0] == rules[1]
    assert rules[1].remote_host == "192.0.2.2"


def test_an_answer_without_sdp_means_the_early_one_to_the_heir_too() -> None:
    revived = through_the_store(early())
    twin = Calling.around(revived)
    twin.accept("")
    assert revived.phase is Phase.ACCEPTED
    assert revived.hangup_wanted is None


def test_an_heir_acknowledges_and_goes_on() -> None:
    revived = through_the_store(party_accepted())
    effects = machine.step(revived, AckSent(), now=1003.0)
    assert Meet() in effects
    assert revived.phase is Phase.ANSWERED


def test_every_phase_is_among_the_states() -> None:
    assert {make().call.phase for make in STATES.values()} == set(Phase)
    assert {make().call.phase for make in OUTGOING.values()} == set(Phase) - {Phase.ANSWERING, Phase.ENDING}


def test_an_heir_answers_to_the_byte_as_the_dead_would_have() -> None:
    bench = accepted()
    (accept,) = bench.all(Accept)
    assert accepted_response(through_the_store(bench)).encode() == accept.response.encode()


def test_an_heir_goes_on_with_the_list() -> None:
    revived = through_the_store(listed())
    assert revived.list is not None
    assert revived.list.current is not None
    assert [step.action.name for step in (revived.list.current, *revived.list.left)] == ["pause", "answer", "park"]


def test_an_heir_names_new_actions_after_the_old_ones() -> None:
    bench = listed()
    revived = through_the_store(bench)
    assert revived.new_action_id() == bench.call.new_action_id()


def test_an_heir_hangs_up_when_the_ack_comes() -> None:
    revived = through_the_store(hanging_up())
    machine.step(revived, AcceptSent(), now=1001.0)
    effects = machine.step(revived, Acknowledged(1, message(request("ACK", to_tag=TAG))), now=1002.0)
    told = [effect.event.type for effect in effects if isinstance(effect, Emit)]
    assert told == ["call.answered"]
    assert revived.phase is Phase.ENDING
    assert revived.ended is not None
    assert revived.ended.reason == "hangup"


def test_an_answered_call_keeps_no_invite() -> None:
    revived = through_the_store(STATES["answered"]())
    assert (revived.invite, revived.offer) == (None, None)
    assert revived.accept_sent


def test_what_changes_is_small() -> None:
    bench = STATES["held"]()
    assert len(snapshot.variable(bench.call)) < 700
    assert len(snapshot.variable(STATES["unanswered"]().call)) < 60


def test_bytes_that_are_no_utf8_survive() -> None:
    bench = Bench(extra="Subject: \udcff\udcfe\r\n")
    fixed = snapshot.fixed(bench.call, bench.invite)
    assert fixed.isascii()
    revived = revive(snapshot.read(fixed), snapshot.read(snapshot.variable(bench.call)), bench)
    assert revived.headers == {"Subject": ("\udcff\udcfe",)}


@pytest.mark.parametrize("data", [b"", b"nonsense", b"[]", b'"v"', b"{}", b'{"v":2}', b'{"v":"1"}', b"\xff"])
def test_what_another_release_wrote_is_left_to_it(data: bytes) -> None:
    with pytest.raises(snapshot.UnreadableSnapshot):
        snapshot.read(data)


@pytest.mark.parametrize("state", ALL)
def test_fields_of_a_newer_release_are_ignored(state: str) -> None:
    bench = ALL[state]()
    fixed = json.loads(snapshot.fixed(bench.call, bench.invite)) | {"new": 1}
    variable = json.loads(snapshot.variable(bench.call)) | {"new": {"x": [1]}}
    revived = revive(fixed, variable, bench)
    assert shown(revived) == shown(bench.call)
    written = json.loads(snapshot.variable(revived))
    assert written == variable, "and kept for whoever knows what they mean"


@pytest.mark.parametrize("state", ALL)
def test_no_field_of_our_own_is_taken_for_a_newer_one(state: str) -> None:
    assert through_the_store(ALL[state]()).unknown == ""


def test_every_field_that_is_read_is_a_known_one() -> None:
    source = Path(snapshot.__file__).read_text()
    read = set(re.findall(r'variable(?:\["|\.get\(")(\w+)"', source)) | set(re.findall(r'"(\w+)" in variable', source))
    assert read
    assert read | {"v"} == snapshot._KNOWN


def test_the_older_version_is_written_where_somebody_reads_no_other() -> None:
    bench = STATES["answered"]()
    for version in (1, 2):
        fixed = snapshot.fixed(bench.call, bench.invite, version=version)
        variable = snapshot.variable(bench.call, version)
        assert json.loads(fixed)["v"] == json.loads(variable)["v"] == version
        assert snapshot.read(variable, (1, 2))["v"] == version


@pytest.mark.parametrize(
    "invite", ["", "nonsense", "SIP/2.0 200 OK\r\n\r\n", request("INVITE", sdp="v=0\r\nnonsense")], ids=range(4)
)
def test_an_invite_that_does_not_parse_any_more(invite: str) -> None:
    bench = STATES["unanswered"]()
    fixed = snapshot.read(snapshot.fixed(bench.call, bench.invite)) | {"invite": invite}
    with pytest.raises(snapshot.UnreadableSnapshot):
        revive(fixed, snapshot.read(snapshot.variable(bench.call)), bench)


def test_a_phase_nobody_knows() -> None:
    bench = STATES["unanswered"]()
    fixed = snapshot.read(snapshot.fixed(bench.call, bench.invite))
    with pytest.raises(ValueError, match="dancing"):
        revive(fixed, {"v": 1, "phase": "dancing", "sequence": 1}, bench)


def test_a_revived_call_can_be_answered() -> None:
    revived = through_the_store(STATES["parked"]())
    effects = machine.step(revived, Commanded((Answer(),), listed=False), now=1003.0)
    assert any(isinstance(effect, ActionsAccepted) for effect in effects)
    effects = machine.step(revived, MediaOpened("192.0.2.10", 20002), now=1003.0)
    (accept,) = [effect for effect in effects if isinstance(effect, Accept)]
    assert accept.response.body.count(b"m=audio 20002") == OFFER.count("m=audio")


def test_what_two_joined_legs_have_agreed_on_survives_too() -> None:
    bench = accepted()
    plain = bench.call.negotiated
    assert plain is not None
    picture = Stream("198.51.100.7", 6002, "sendrecv", (VP8,), (VP8._replace(payload_type=97),), ("97 nack pli",))
    opus = OPUS._replace(fmtp="useinbandfec=1")
    bench.call.negotiated = replace(plain, codec=opus, incoming=(), outgoing=(opus, PCMU), ptime=20, video=picture)
    assert through_the_store(bench).negotiated == bench.call.negotiated
    assert snapshot.read(snapshot.variable(bench.call))["negotiated"] == bench.call.negotiated.to_data()


def test_a_session_timer_is_kept_and_a_refresh_is_not() -> None:
    """Whoever carries the call on knows when the next one is due; and the release before knows of no such purpose."""
    bench = timed()
    bench.give(Elapsed(CallTimer.SESSION))
    assert bench.call.reoffer is not None
    assert bench.call.reoffer.purpose == "refresh"
    stored = snapshot.read(snapshot.variable(bench.call))
    assert stored["session"] == [600, "ours", bench.now + 600, False]
    assert "reoffer" not in stored
    revived = through_the_store(bench)
    assert (revived.session, revived.session_least) == (bench.call.session, 300)
