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


REPORTS = ("198.51.100.7", 6001)


def test_reports_go_to_the_port_above_until_they_come_from_another() -> None:
    latch = Latch(STRICT)
    assert latch.report_destination == REPORTS
    latch.hold(("198.51.100.7", 6002))
    assert latch.report_destination == ("198.51.100.7", 6003)
    assert latch.admits_report(("198.51.100.7", 7777))
    latch.hold_report(("198.51.100.7", 7777))
    assert latch.report_destination == ("198.51.100.7", 7777)
    assert not latch.admits_report(REPORTS)


def test_reports_come_from_the_media_s_address() -> None:
    latch = Latch(NAT)
    assert latch.admits_report(("10.0.0.5", 9))
    assert latch.admits_report(("203.0.113.9", 9))
    assert not latch.admits_report(STRANGER)
    latch.hold_report(("10.0.0.5", 9))
    latch.hold(MAPPED)  # it is elsewhere: who reported was another, with an address that is nobody's alone
    assert not latch.admits_report(("10.0.0.5", 9))
    assert latch.admits_report(("203.0.113.9", 9))


def test_behind_a_nat_reports_are_not_sent_to_a_guess() -> None:
    latch = Latch(NAT)
    latch.hold(MAPPED)
    assert latch.report_destination is None
    latch.hold_report(("203.0.113.9", 50001))
    assert latch.report_destination == ("203.0.113.9", 50001)


def test_learn_learns_from_media_only() -> None:
    latch = Latch(replace(STRICT, latching="learn"))
    assert not latch.admits_report(REPORTS)
    latch.hold(STRANGER)
    assert latch.admits_report((STRANGER[0], 9))
    assert not latch.admits_report(REPORTS)


def test_off_believes_the_sdp_about_reports_too() -> None:
    latch = Latch(replace(STRICT, latching="off"))
    assert latch.admits_report(REPORTS)
    assert not latch.admits_report(NAMED)
    latch.hold_report(REPORTS)
    assert latch.report_destination == REPORTS


def test_a_new_offer_and_answer_opens_the_latch_of_reports_too() -> None:
    latch = Latch(STRICT)
    latch.hold(NAMED)
    latch.hold_report(("198.51.100.7", 7777))
    latch.renew(replace(STRICT, generation=2))
    assert latch.admits_report(("198.51.100.7", 8888))
    assert latch.report_destination == REPORTS


def test_there_is_no_port_above_the_last() -> None:
    latch = Latch(replace(STRICT, remote_port=65535))
    assert latch.destination is not None
    assert latch.report_destination is None


def test_an_address_of_ipv6_keeps_its_scope() -> None:
    latch = Latch(replace(STRICT, remote_host="fe80::1", sources=("fe80::1",)))
    latch.hold(("fe80::1", 6000, 0, 3))
    assert latch.report_destination == ("fe80::1", 6001, 0, 3)


def test_nobody_who_wants_nothing_gets_reports() -> None:
    assert Latch(replace(STRICT, remote_port=0)).report_destination is None
