"""What offer and answer make of a worker's rule (contract §8)."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Answer
from bridge.calls.call import Plan
from bridge.calls.inputs import MediaOpened
from bridge.calls.streams import is_behind_nat, rule_of
from bridge.rtp.rules import Latching, Rule
from tests.calls.bench import Bench, unanswered
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
