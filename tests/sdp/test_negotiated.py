"""What was agreed on is plain data in a snapshot: written whole, read also as an older release wrote it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import cast

import pytest

from bridge.sdp.codecs import DTMF, G722, OPUS, PCMA, PCMU, Codec
from bridge.sdp.negotiated import Negotiated, Stream

# As written before `incoming` and its neighbours were there, by the answer to a delayed offer.
OLD: dict[str, object] = {
    "codec": ["PCMA", 8000, 1, 8],
    "telephone_event": 96,
    "remote": ["198.51.100.7", 6000],
    "direction": "recvonly",
    "held": True,
    "payload_types": [8, 0, 101, 96],
}
PICTURE = Stream(
    "198.51.100.7",
    6002,
    "sendonly",
    (Codec("VP8", 90000, 1, 96), Codec("H264", 90000, 1, 97, "packetization-mode=1"), Codec("VP8", 90000, 1, 120)),
    (Codec("VP8", 90000, 1, 120),),
    ("120 nack pli", "* ccm fir"),
)
FULL = Negotiated(
    codec=OPUS._replace(fmtp="useinbandfec=1"),
    telephone_event=None,
    remote_host="198.51.100.7",
    remote_port=6000,
    direction="sendonly",
    held=False,
    payload_types=(111, 9, 101),
    incoming=(OPUS, G722, DTMF),
    outgoing=(OPUS._replace(fmtp="useinbandfec=1"), G722, DTMF),
    allowed="sendrecv",
    ptime=20,
    maxptime=60,
    video=PICTURE,
)


def stored(data: dict[str, object]) -> dict[str, object]:
    return cast(dict[str, object], json.loads(json.dumps(data)))


@pytest.mark.parametrize(
    "negotiated",
    [
        FULL,
        replace(FULL, video=None, ptime=None),
        replace(FULL, maxptime=None, codec=PCMU, outgoing=(), incoming=()),
        Negotiated.from_data(OLD),
    ],
)
def test_every_field_survives(negotiated: Negotiated) -> None:
    assert Negotiated.from_data(stored(negotiated.to_data())) == negotiated


def test_what_an_older_release_did_not_write_follows_from_what_it_did() -> None:
    negotiated = Negotiated.from_data(OLD)
    assert negotiated.incoming == (PCMA, PCMU, DTMF, DTMF._replace(payload_type=96))
    assert negotiated.outgoing == (PCMA, DTMF._replace(payload_type=96))
    assert negotiated.allowed == "recvonly"
    assert negotiated.video is None
    assert stored(negotiated.to_data()) == OLD  # and an older release can read it back


def test_a_picture_counts_each_number_once() -> None:
    twice = replace(PICTURE, incoming=(*PICTURE.incoming, *PICTURE.incoming))
    assert twice.payload_types == PICTURE.payload_types == (96, 97, 120)


@pytest.mark.parametrize(
    "damage",
    [{"codec": ["PCMU", 8000, 1]}, {"incoming": [["PCMU", 8000, 1]]}, {"video": {"remote": ["198.51.100.7", 6000]}}],
)
def test_damaged_data_is_not_guessed_at(damage: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a stored"):
        Negotiated.from_data({**OLD, **damage})
