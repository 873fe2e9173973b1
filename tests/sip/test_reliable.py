"""RFC 3262's counting, both ends: one response at a time, PRACKs that fit, and responses in order."""

from __future__ import annotations

import pytest

from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response
from bridge.sip.reliable import (
    RSEQ_MOST,
    WAITING_MOST,
    Provisionals,
    Rack,
    Said,
    order,
    rack_of,
    rseq_of,
    wanted,
)

RINGING, PROGRESS = Said(180, has_sdp=False), Said(183, has_sdp=True)


def request(method: str, *lines: tuple[str, str]) -> Request:
    return Request(method, "sip:bob@example.com", Headers(lines), b"")


def test_one_is_said_at_a_time_under_the_next_number() -> None:
    said = Provisionals.begun("tag")
    first = said.rseq
    assert 0 < first + 1 < 2**31
    assert said.say(RINGING)
    assert said.rseq == first + 1
    assert not said.say(RINGING), "it is being said"
    assert not said.say(PROGRESS)
    assert said.waiting == [PROGRESS]
    assert said.next() is None
    assert said.acknowledge(Rack(first + 1, 7, "INVITE"), 7)
    assert said.next() == PROGRESS
    assert said.say(PROGRESS)
    assert (said.rseq, said.waiting) == (first + 2, [])


@pytest.mark.parametrize("rack", [None, Rack(5, 7, "INVITE"), Rack(6, 8, "INVITE"), Rack(6, 7, "UPDATE")])
def test_a_prack_that_does_not_fit_acknowledges_nothing(rack: Rack | None) -> None:
    said = Provisionals(5)
    said.say(RINGING)
    assert not said.acknowledge(rack, 7)
    assert said.pending == RINGING


def test_a_second_prack_finds_nothing() -> None:
    said = Provisionals(5)
    said.say(RINGING)
    assert said.acknowledge(Rack(6, 7, "INVITE"), 7)
    assert not said.acknowledge(Rack(6, 7, "INVITE"), 7)


def test_what_nobody_acknowledges_is_not_piled_up() -> None:
    said = Provisionals(5)
    for number in range(100):
        said.say(Said(180 + number % 2, has_sdp=False))
    assert len(said.waiting) == WAITING_MOST


def test_it_outlives_its_process() -> None:
    said = Provisionals(5)
    said.say(RINGING)
    said.say(PROGRESS)
    again = Provisionals.from_data(said.to_data())
    assert again == said
    assert Provisionals.from_data(Provisionals(5).to_data()) == Provisionals(5)


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ((), None),
        ((("Supported", "timer, 100REL"),), "supported"),
        ((("Require", "100rel"), ("Supported", "100rel")), "required"),
    ],
)
def test_whether_the_caller_wants_it(lines: tuple[tuple[str, str], ...], asked: str | None) -> None:
    assert wanted(request("INVITE", *lines)) == asked


@pytest.mark.parametrize(
    ("text", "rack"),
    [
        ("776656 1 INVITE", Rack(776656, 1, "INVITE")),
        (" 1  2   INVITE ", Rack(1, 2, "INVITE")),
        (f"{RSEQ_MOST} 1 INVITE", Rack(RSEQ_MOST, 1, "INVITE")),
        (f"{RSEQ_MOST + 1} 1 INVITE", None),
        ("-1 1 INVITE", None),
        ("1 INVITE", None),
        ("1 1 INVITE x", None),
        ("٣ 1 INVITE", None),
        ("", None),
    ],
)
def test_what_a_prack_names(text: str, rack: Rack | None) -> None:
    assert rack_of(request("PRACK", ("RAck", text))) == rack


@pytest.mark.parametrize(
    ("status", "lines", "rseq"),
    [
        (183, (("Require", "100rel"), ("RSeq", "9021")), 9021),
        (100, (("Require", "100rel"), ("RSeq", "1")), None),
        (200, (("Require", "100rel"), ("RSeq", "1")), None),
        (183, (("RSeq", "1"),), None),
        (183, (("Require", "100rel"),), None),
        (183, (("Require", "100rel"), ("RSeq", "0")), None),
        (183, (("Require", "100rel"), ("RSeq", "x")), None),
    ],
)
def test_which_responses_want_a_prack(status: int, lines: tuple[tuple[str, str], ...], rseq: int | None) -> None:
    assert rseq_of(Response(status, "Whatever", Headers(lines), b"")) == rseq


@pytest.mark.parametrize(
    ("known", "rseq", "said"),
    [(None, 1, "next"), (None, 900, "next"), (7, 8, "next"), (7, 7, "known"), (7, 1, "known"), (7, 9, "gap")],
)
def test_they_come_in_order(known: int | None, rseq: int, said: str) -> None:
    assert order(known, rseq) == said
