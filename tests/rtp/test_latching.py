"""The contract's media rules (§8): who may send to a port, and where we send."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.rtp.latching import Latch
from bridge.rtp.rules import Rule

STRICT = Rule(
    remote_host="198.51.100.7",
    remote_port=6000,
    sources=("198.51.100.7",),
    latching="strict",
    behind_nat=False,
    payload_types=(0,),
    silence_payload_type=0,
    clock_rate=8000,
    generation=1,
    expects_media=True,
)
# The phone says 10.0.0.5; its signalling came from its router's public address.
NAT = replace(STRICT, remote_host="10.0.0.5", sources=("10.0.0.5", "203.0.113.9"), behind_nat=True)
NAMED = ("198.51.100.7", 6000)
MAPPED = ("203.0.113.9", 41234)
STRANGER = ("192.0.2.66", 6000)


def test_strict_takes_any_port_of_the_address_and_then_holds_one() -> None:
    latch = Latch(STRICT)
    assert latch.destination == NAMED
    assert latch.admits(("198.51.100.7", 6002))
    assert not latch.admits(STRANGER)
    latch.hold(("198.51.100.7", 6002))
    assert latch.destination == ("198.51.100.7", 6002)
    assert not latch.admits(("198.51.100.7", 6000))
    assert latch.admits(("198.51.100.7", 6002))


def test_behind_a_nat_nothing_is_sent_before_something_was_heard() -> None:
    latch = Latch(NAT)
    assert latch.destination is None
    assert not latch.admits(STRANGER)
    assert latch.admits(MAPPED)
    latch.hold(MAPPED)
    assert latch.destination == MAPPED


def test_learn_holds_whoever_comes_first() -> None:
    latch = Latch(replace(STRICT, latching="learn"))
    assert latch.admits(STRANGER)
    latch.hold(STRANGER)
    assert latch.destination == STRANGER
    assert not latch.admits(NAMED)


def test_off_believes_the_sdp_alone() -> None:
    latch = Latch(replace(STRICT, latching="off", behind_nat=True))
    assert latch.destination == NAMED
    assert latch.admits(NAMED)
    assert not latch.admits(("198.51.100.7", 6002))
    latch.hold(NAMED)
    assert latch.destination == NAMED


def test_a_new_offer_and_answer_opens_the_latch_again() -> None:
    latch = Latch(STRICT)
    latch.hold(NAMED)
    latch.renew(replace(STRICT, generation=2, remote_host="198.51.100.8", sources=("198.51.100.8",)))
    assert latch.destination == ("198.51.100.8", 6000)
    assert not latch.admits(NAMED)
    assert latch.admits(("198.51.100.8", 9))


def test_the_same_rule_again_changes_nothing() -> None:
    latch = Latch(NAT)
    latch.hold(MAPPED)
    latch.renew(NAT)
    assert latch.source == latch.destination == MAPPED


def test_a_refresh_behind_a_nat_does_not_fall_silent() -> None:
    latch = Latch(NAT)
    latch.hold(MAPPED)
    latch.renew(replace(NAT, generation=2))
    assert latch.destination == MAPPED  # still, until the far end is heard from elsewhere
    moved = ("203.0.113.9", 50000)
    assert latch.admits(moved)
    latch.hold(moved)
    assert latch.destination == moved


def test_a_moved_phone_behind_a_nat_is_waited_for_again() -> None:
    latch = Latch(NAT)
    latch.hold(MAPPED)
    latch.renew(replace(NAT, generation=2, remote_port=7000))
    assert latch.destination is None


@pytest.mark.parametrize(
    "nowhere", [{"remote_host": None}, {"remote_host": "0.0.0.0"}, {"remote_host": "::"}, {"remote_port": 0}]
)
def test_nothing_is_sent_to_an_end_that_wants_nothing(nowhere: dict[str, str | int | None]) -> None:
    latch = Latch(replace(STRICT, **nowhere))  # type: ignore[arg-type]
    assert latch.destination is None
    assert latch.admits(NAMED)
    latch.hold(NAMED)
    assert latch.destination is None
    latch.renew(replace(STRICT, generation=2))
    assert latch.destination == NAMED
