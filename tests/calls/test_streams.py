"""What offer and answer make of a worker's rule (contract §8)."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Answer
from bridge.calls.call import Plan
from bridge.calls.inputs import MediaOpened
from bridge.calls.streams import is_behind_nat, rule_of
from bridge.rtp.rules import Latching, Rule
from tests.calls.bench import CALL, Bench, answered, unanswered
from tests.calls.outgoing import early, hears_early_media, speaks
from tests.calls.test_joining import pair
from tests.engine.world import OFFER, sdp


def rule(body: str = OFFER, latching: Latching = "strict") -> Rule:
    bench = Bench(sdp=body, plan=Plan("p", latching=latching))
    bench.decide(Answer())
    bench.give(MediaOpened("192.0.2.10", 20000))
    return rule_of(bench.call)


def test_an_ordinary_stream() -> None:
    assert rule() == Rule(
        remote_host="192.0.2.1",
        remote_port=4000,
        sources=("192.0.2.1",),
        latching="strict",
        behind_nat=False,
        payload_types=(0, 101),
        silence_payload_type=0,
        clock_rate=8000,
        generation=0,
        expects_media=True,
        dtmf_payload_types=(101,),
    )


def test_a_private_address_in_the_sdp_lets_the_signalling_source_in() -> None:
    behind = rule(sdp(address="10.0.0.7"))
    assert (behind.sources, behind.behind_nat) == (("10.0.0.7", "192.0.2.1"), True)


@pytest.mark.parametrize(
    ("direction", "silence", "expects"),
    [("sendrecv", 0, True), ("sendonly", None, False), ("recvonly", 0, False), ("inactive", None, False)],
)
def test_directions(direction: str, silence: int | None, expects: bool) -> None:
    found = rule(sdp(direction=direction))
    assert (found.silence_payload_type, found.expects_media) == (silence, expects)


def test_the_old_hold_sends_nowhere_and_expects_nothing() -> None:
    found = rule(sdp(address="0.0.0.0"))
    assert (found.remote_host, found.remote_port, found.expects_media) == (None, 0, False)


def test_the_plan_says_how_to_latch() -> None:
    assert rule(latching="learn").latching == "learn"


def test_there_is_no_rule_before_there_is_a_stream() -> None:
    with pytest.raises(AssertionError):
        rule_of(unanswered().call)


@pytest.mark.parametrize(
    ("media", "signalling", "via", "behind"),
    [
        ("9.9.9.9", "9.9.9.9", "9.9.9.9", False),
        ("9.9.9.9", "9.9.9.9", "10.0.0.1", False),  # it has found out its public address
        ("8.8.8.8", "9.9.9.9", "9.9.9.9", False),  # media elsewhere, no NAT to be seen
        ("8.8.8.8", "9.9.9.9", "10.0.0.1", True),
        ("8.8.8.8", "9.9.9.9", "phone.example", False),
        ("10.0.0.1", "9.9.9.9", "9.9.9.9", True),
        ("100.64.0.1", "9.9.9.9", "9.9.9.9", True),
        ("fd00::1", "2606:4700::1", "[2606:4700::1]", True),
        ("2606:4700::2", "2606:4700::1", "[2606:4700:0::1]", False),
        ("2606:4700:0::1", "2606:4700::1", "[fd00::1]", False),
        ("phone.example", "9.9.9.9", "9.9.9.9", True),
    ],
)
def test_who_is_behind_a_nat(media: str, signalling: str, via: str, behind: bool) -> None:
    assert is_behind_nat(media, signalling, via_host=via) is behind


# Who hears this call


def heard(one: Bench, other: Bench) -> tuple[str | None, str | None]:
    """Who hears the first, and who the second."""
    return rule_of(one.call, other.call).relay_to, rule_of(other.call, one.call).relay_to


def test_two_linked_calls_of_one_codec_hear_each_other() -> None:
    one, other = pair(answered(), answered())
    assert heard(one, other) == (other.call.id, one.call.id)


@pytest.mark.parametrize("why", ["no link", "another link", "another codec", "nothing agreed"])
def test_who_hears_nobody(why: str) -> None:
    one, other = pair(answered(), answered())
    match why:
        case "no link":
            one.call.link = None
        case "another link":
            assert one.call.link is not None
            one.call.link.peer = CALL
        case "another codec":
            other.call.negotiated = speaks("8 101")
        case "nothing agreed":
            other.call.negotiated = None
    assert rule_of(one.call, other.call).relay_to is None
    assert rule_of(one.call).relay_to is None


@pytest.mark.parametrize(
    ("theirs", "on_hold", "hears"),
    [
        ("sendrecv", False, True),
        ("recvonly", False, True),  # it only listens
        ("sendonly", False, False),  # it holds us
        ("inactive", False, False),
        ("sendrecv", True, False),  # we hold it
    ],
)
def test_who_is_held_hears_nobody_and_may_be_heard(theirs: str, on_hold: bool, hears: bool) -> None:
    one, other = pair(answered(), answered())
    other.call.negotiated = speaks(direction=theirs)
    other.call.on_hold = on_hold
    assert heard(one, other) == (other.call.id if hears else None, one.call.id)


def test_payload_types_become_the_others() -> None:
    one, other = pair(answered(), answered())
    other.call.negotiated = speaks("0 101")
    body = sdp(formats="0 96").replace("a=rtpmap:101", "a=rtpmap:96")
    one.reinvite(body)
    assert dict(rule_of(one.call, other.call).payload_map) == {0: 0, 96: 101}
    assert dict(rule_of(other.call, one.call).payload_map) == {0: 0, 101: 96}


def test_who_is_muted_is_still_relayed_to_and_says_so() -> None:
    one, other = pair(answered(), answered())
    one.call.muted = True
    assert rule_of(one.call, other.call).muted
    assert not rule_of(other.call, one.call).muted


def test_early_media_passes_both_ways() -> None:
    caller, party = pair(hears_early_media(), early())
    assert heard(party, caller) == (caller.call.id, party.call.id)
    assert rule_of(party.call, caller.call).sources == ("192.0.2.2",)
