"""RFC 3263 §4 and RFC 2782: what is asked, and the order of what is found."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from bridge.sip.locating import (
    HOPS_MOST,
    Answers,
    Hop,
    Missing,
    Naptr,
    Question,
    Record,
    Srv,
    Wanted,
    in_turn,
    locate,
    wanted_of,
    without_questions,
)
from bridge.sip.uri import SipUri, parse_uri

ALL = {("udp", 4), ("tcp", 4), ("tls", 4)}
UDP = {("udp", 4)}


def no_chance() -> float:
    return 0.0


def wanted(text: str) -> Wanted:
    uri = parse_uri(text)
    assert isinstance(uri, SipUri)
    return wanted_of(uri)


class Zone:
    """What a DNS knows; the questions that were asked of it, in rounds."""

    def __init__(self, **records: list[Record]) -> None:
        self.records = {}
        for written, found in records.items():
            kind, _, name = written.partition(" ")
            self.records[kind, name] = tuple(found)
        self.rounds: list[list[str]] = []

    def find(self, text: str, spoken: set[tuple[str, int]] = ALL) -> list[str]:
        answers: dict[Question, tuple[Record, ...]] = {}
        for _ in range(4):
            found = locate(wanted(text), answers, spoken=spoken, chance=no_chance)
            if not isinstance(found, Missing):
                return [f"{each.transport} {each.host} {each.port}" for each in found]
            self.rounds.append([f"{each.kind} {each.name}" for each in found.questions])
            assert not any(each in answers for each in found.questions)
            answers |= {each: self.records.get((each.kind, each.name), ()) for each in found.questions}
        raise AssertionError("asks without end")


# The example of RFC 3263 §4.1 and §4.2, with addresses.
EXAMPLE = {
    "naptr example.com": [
        Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com."),
        Naptr(90, 50, "s", "SIP+D2T", "_sip._tcp.example.com"),
        Naptr(100, 50, "s", "SIP+D2U", "_sip._udp.example.com."),
    ],
    "srv _sip._tcp.example.com": [Srv(0, 1, 5060, "server1.example.com"), Srv(0, 2, 5060, "server2.example.com.")],
    "srv _sips._tcp.example.com": [Srv(0, 1, 5061, "server1.example.com")],
    "srv _sip._udp.example.com": [Srv(10, 1, 5080, "server2.example.com"), Srv(0, 1, 5070, "server1.example.com")],
    "addresses server1.example.com": ["192.0.2.1", "2001:db8::1"],
    "addresses server2.example.com": ["192.0.2.2"],
    "addresses example.com": ["192.0.2.9"],
}


@pytest.mark.parametrize(
    ("uri", "hops", "asked"),
    [
        ("sip:a@192.0.2.7", ["udp 192.0.2.7 5060"], 0),
        ("sip:a@192.0.2.7:5070;transport=TCP", ["tcp 192.0.2.7 5070"], 0),
        ("sip:a@192.0.2.7;transport=tls", ["tls 192.0.2.7 5061"], 0),
        ("sips:a@192.0.2.7", ["tls 192.0.2.7 5061"], 0),
        ("sips:a@192.0.2.7;transport=tcp", ["tls 192.0.2.7 5061"], 0),
        # The lowest order that we speak, and no other
        ("sip:a@Example.COM.", ["tls 192.0.2.1 5061"], 3),
        ("sips:a@example.com", ["tls 192.0.2.1 5061"], 3),
        # A transport spares NAPTR, a port spares SRV
        ("sip:a@example.com;transport=udp", ["udp 192.0.2.1 5070", "udp 192.0.2.2 5080"], 2),
        ("sips:a@example.com;transport=tcp", ["tls 192.0.2.1 5061"], 2),
        ("sip:a@example.com:5090", ["udp 192.0.2.9 5090"], 1),
        ("sip:a@example.com:5090;transport=tcp", ["tcp 192.0.2.9 5090"], 1),
        ("sips:a@example.com:5090", ["tls 192.0.2.9 5090"], 1),
        ("sip:a@nowhere.example", [], 3),
    ],
)
def test_each_kind_of_uri(uri: str, hops: list[str], asked: int) -> None:
    zone = Zone(**EXAMPLE)
    assert zone.find(uri) == hops
    assert len(zone.rounds) == asked


def test_what_is_asked() -> None:
    zone = Zone(**EXAMPLE)
    zone.find("sip:a@example.com")
    assert zone.rounds == [
        ["naptr example.com"],
        ["srv _sips._tcp.example.com"],
        ["addresses server1.example.com"],
    ]


def test_a_listener_less_is_a_service_less() -> None:
    zone = Zone(**EXAMPLE)
    assert zone.find("sip:a@example.com", UDP) == ["udp 192.0.2.1 5070", "udp 192.0.2.2 5080"]
    assert Zone(**EXAMPLE).find("sips:a@example.com", UDP) == ["tls 192.0.2.9 5061"]  # whoever tries that is told so


def test_ipv6_where_we_speak_it() -> None:
    assert Zone(**EXAMPLE).find("sip:a@example.com", {("udp", 6)}) == ["udp 2001:db8::1 5070"]
    both = Zone(**EXAMPLE).find("sip:a@example.com", {("udp", 6), ("udp", 4)})
    assert both == ["udp 192.0.2.1 5070", "udp 2001:db8::1 5070", "udp 192.0.2.2 5080"]


def test_an_address_that_no_listener_reaches_is_told() -> None:
    zone = Zone(**{"addresses six.example": ["2001:db8::1"]})
    assert zone.find("sip:a@six.example", UDP) == ["udp 2001:db8::1 5060"]


def test_srv_without_naptr() -> None:
    plain = {each: found for each, found in EXAMPLE.items() if not each.startswith("naptr")}
    zone = Zone(**plain)
    assert zone.find("sip:a@example.com") == [
        "udp 192.0.2.1 5070",
        "udp 192.0.2.2 5080",
        "tcp 192.0.2.1 5060",
        "tcp 192.0.2.2 5060",
        "tls 192.0.2.1 5061",
    ]
    assert zone.rounds[1] == ["srv _sip._udp.example.com", "srv _sip._tcp.example.com", "srv _sips._tcp.example.com"]
    assert Zone(**plain).find("sips:a@example.com") == ["tls 192.0.2.1 5061"]


def test_naptr_of_other_things_does_not_count() -> None:
    zone = Zone(
        **EXAMPLE
        | {
            "naptr example.com": [
                Naptr(1, 1, "u", "E2U+sip", ""),
                Naptr(1, 1, "s", "SIP+D2S", "_sip._sctp.example.com"),
                Naptr(2, 2, "S", "sip+d2u", "_sip._udp.example.com"),
                Naptr(2, 1, "a", "SIP+D2T", "server1.example.com"),
            ]
        }
    )
    assert zone.find("sip:a@example.com") == ["udp 192.0.2.1 5070", "udp 192.0.2.2 5080"]


def test_a_preference_goes_on_to_the_next() -> None:
    zone = Zone(
        **EXAMPLE
        | {
            "naptr example.com": [
                Naptr(1, 20, "s", "SIP+D2U", "_sip._udp.example.com"),
                Naptr(1, 10, "s", "SIP+D2T", "_sip._tcp.example.com"),
            ]
        }
    )
    assert [each.split()[0] for each in zone.find("sip:a@example.com")] == ["tcp", "tcp", "udp", "udp"]


def test_no_records_at_all() -> None:
    zone = Zone(**{"addresses phone.example": ["192.0.2.5"]})
    assert zone.find("sip:a@phone.example") == ["udp 192.0.2.5 5060"]
    assert zone.find("sips:a@phone.example") == ["tls 192.0.2.5 5061"]
    assert zone.find("sip:a@phone.example;transport=tcp") == ["tcp 192.0.2.5 5060"]
    assert zone.find("sip:a@phone.example;transport=ws", {("ws", 4)}) == ["ws 192.0.2.5 80"]


def test_a_service_that_is_decidedly_not_there() -> None:
    zone = Zone(**{"srv _sip._udp.example.com": [Srv(0, 0, 0, ".")], "addresses example.com": ["192.0.2.9"]})
    assert zone.find("sip:a@example.com;transport=udp") == []


def test_no_more_than_somebody_would_wait_for() -> None:
    zone = Zone(**{"addresses many.example": [f"192.0.2.{number}" for number in range(1, 100)]})
    assert len(zone.find("sip:a@many.example")) == HOPS_MOST


def test_a_target_may_be_an_address() -> None:
    zone = Zone(**{"srv _sip._udp.example.com": [Srv(0, 0, 5062, "192.0.2.6")]})  # RFC 2782 forbids it; people do it
    assert zone.find("sip:a@example.com;transport=udp") == ["udp 192.0.2.6 5062"]


def test_numbers_need_nobody() -> None:
    assert without_questions(wanted("sip:a@[2001:db8::1]:5070")) == Hop("udp", "2001:db8::1", 5070)
    assert without_questions(wanted("sip:a@example.com")) is None
    nothing: Answers = {}
    assert locate(wanted("sip:a@192.0.2.1"), nothing, spoken=UDP, chance=no_chance) == (Hop("udp", "192.0.2.1", 5060),)


def test_priorities_come_before_weights() -> None:
    records = [Srv(2, 1000, 1, "c"), Srv(1, 0, 1, "b"), Srv(0, 1, 1, "a")]
    assert [each.target for each in in_turn(records, lambda: 1.0)] == ["a", "b", "c"]


def test_weights_are_shares() -> None:
    chance = Random(4711).random
    records = [Srv(0, 60, 1, "a"), Srv(0, 30, 1, "b"), Srv(0, 10, 1, "c"), Srv(0, 0, 1, "d")]
    orders = [in_turn(records, chance) for _ in range(10_000)]
    assert all(sorted(each) == sorted(records) for each in orders)
    firsts = Counter(each[0].target for each in orders)
    assert firsts["a"] == pytest.approx(6000, abs=300)
    assert firsts["b"] == pytest.approx(3000, abs=300)
    assert firsts["c"] == pytest.approx(1000, abs=200)
    assert firsts["d"] < 300
    seconds = Counter(each[1].target for each in orders if each[0].target == "a")
    assert seconds["b"] == pytest.approx(firsts["a"] * 0.75, abs=300)
