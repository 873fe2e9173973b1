"""One JSON object per packet, and nothing that comes in can raise."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.protocol import decode, encode, quality_to_data, rule_from_data, rule_to_data
from bridge.rtp.quality import Quality
from bridge.rtp.rules import Rule

RULE = Rule(
    "192.0.2.1",
    6000,
    ("192.0.2.1", "203.0.113.9"),
    "strict",
    True,
    (0, 101),
    0,
    8000,
    3,
    False,
    relay_to="call_2",
    payload_map=((0, 0), (101, 96)),
    muted=True,
    dtmf_payload_types=(101,),
    relays_rtcp=False,
)


def test_a_message_is_compact_json() -> None:
    assert encode({"type": "open", "session": "call_é"}) == b'{"type":"open","session":"call_\\u00e9"}'
    assert decode(encode({"type": "open", "session": "call_é"})) == {"type": "open", "session": "call_é"}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"{}", b'{"type":1}', b"\xff", b"[" * 10_000])
def test_what_is_no_message(data: bytes) -> None:
    assert decode(data) is None


@given(st.binary(max_size=60))
def test_no_bytes_ever_raise(data: bytes) -> None:
    decode(data)


@pytest.mark.parametrize(
    "rule", [RULE, Rule(None, 0, (), "off", False, (), None, 8000, 1, True)], ids=["full", "empty"]
)
def test_a_rule_passes_unchanged(rule: Rule) -> None:
    assert rule_from_data(json.loads(encode(rule_to_data(rule)))) == rule


@pytest.mark.parametrize(
    "changes",
    [
        {"remote_port": 65536},
        {"remote_port": "6000"},
        {"clock_rate": 0},
        {"latching": "lax"},
        {"sources": None},
        {"expects_media": 1},
        {"silence_payload_type": "0"},
        {"relay_to": 1},
        {"payload_map": None},
        {"muted": 0},
        {"dtmf_payload_types": 101},
        {"relays_rtcp": None},
    ],
)
def test_a_rule_that_makes_no_sense(changes: dict[str, object]) -> None:
    assert rule_from_data(rule_to_data(RULE) | changes) is None


def test_no_rule_at_all() -> None:
    assert rule_from_data(None) is None
    assert rule_from_data({}) is None


def test_a_rule_with_a_field_of_a_later_version() -> None:
    assert rule_from_data(rule_to_data(RULE) | {"forward": "other"}) == RULE


def test_a_rule_of_a_version_that_relayed_nothing() -> None:
    added = {"relay_to", "payload_map", "muted", "dtmf_payload_types", "relays_rtcp"}
    known = {name: value for name, value in rule_to_data(RULE).items() if name not in added}
    plain = Rule(**{name: getattr(RULE, name) for name in known})
    assert rule_from_data(json.loads(encode({"type": "rule"} | known))) == plain


@pytest.mark.parametrize("pair", [[0], [0, 128], [-1, 0], ["0", 0], 0, None])
def test_a_payload_type_that_cannot_be_mapped_is_not(pair: object) -> None:
    rule = rule_from_data(json.loads(json.dumps(rule_to_data(RULE) | {"payload_map": [pair, [8, 0]]})))
    assert rule is not None
    assert rule.payload_map == ((8, 0),)


def test_the_figures_are_plain() -> None:
    assert quality_to_data(Quality(packets_received=5, jitter_ms=1.5)) == {
        "packets_received": 5,
        "bytes_received": 0,
        "packets_sent": 0,
        "bytes_sent": 0,
        "packets_lost": 0,
        "jitter_ms": 1.5,
        "strangers": 0,
        "invalid": 0,
        "packets_relayed": 0,
        "remote_packets_lost": None,
        "remote_jitter_ms": None,
        "round_trip_ms": None,
    }
