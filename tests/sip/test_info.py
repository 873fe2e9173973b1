"""Keys in INFO bodies, as phones write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.info import DTMF, DTMF_RELAY, LONGEST_MS, TYPES, Key, read_key


@pytest.mark.parametrize(
    ("of_type", "body", "key"),
    [
        (DTMF_RELAY, b"Signal=5\r\nDuration=250\r\n", Key("5", 250)),
        (DTMF_RELAY, b"Signal= #\nDuration= 90\n", Key("#", 90)),
        (DTMF_RELAY, b"signal=10", Key("*", 160)),
        (DTMF_RELAY, b"Signal=d\r\nDuration=soon", Key("D", 160)),
        (DTMF_RELAY, b"Signal=1\r\nDuration=999999999999", Key("1", LONGEST_MS)),
        (DTMF_RELAY, b"Duration=100", None),
        (DTMF_RELAY, b"Signal=55", None),
        (DTMF_RELAY, b"", None),
        (DTMF, b"7\r\n", Key("7", 160)),
        (DTMF, b"11", Key("#", 160)),
        (DTMF, b"x", None),
        (DTMF, "٣".encode(), None),
    ],
)
def test_what_a_body_tells(of_type: str, body: bytes, key: Key | None) -> None:
    assert read_key(of_type, body) == key


@given(st.sampled_from(TYPES), st.binary(max_size=300))
def test_any_bytes_are_a_key_or_none(of_type: str, body: bytes) -> None:
    key = read_key(of_type, body)
    assert key is None or (key.digit in "0123456789*#ABCD" and 0 <= key.duration_ms <= LONGEST_MS)
