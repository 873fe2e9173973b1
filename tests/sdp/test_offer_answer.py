"""RFC 3264, golden: SDP in, SDP out. Offers come from real phones and trunks, shortened to what matters."""

from __future__ import annotations

import json
import time
from typing import cast

import pytest

from bridge.sdp import codecs
from bridge.sdp.description import SessionDescription, parse
from bridge.sdp.offer_answer import (
    PCMA,
    PCMU,
    Answered,
    Direction,
    LocalEnd,
    Negotiated,
    Unacceptable,
    answer,
    offer,
    offered_codecs,
    read_answer,
)

US = LocalEnd("192.0.2.10", 20000, 7, 1)
HEAD = "v=0|o=alice 1 1 IN IP4 198.51.100.7|s=-|c=IN IP4 198.51.100.7|t=0 0|"


def sdp(text: str) -> SessionDescription:
    """A description from lines separated by bars."""
    description = parse(text.replace("|", "\r\n").encode())
    assert isinstance(description, SessionDescription), description
    return description


def shown(description: SessionDescription) -> str:
    return description.encode().decode().replace("\r\n", "|")


def answered(text: str, *, direction: Direction = "sendrecv", local: LocalEnd = US) -> Answered:
    result = answer(sdp(text), local, direction=direction)
    assert isinstance(result, Answered), result
    return result


def refused(text: str, *, local: LocalEnd = US) -> Unacceptable:
    result = answer(sdp(text), local)
    assert isinstance(result, Unacceptable), result
    return result


GOLDEN = {
    "a plain phone": (
        HEAD + "m=audio 6000 RTP/AVP 0 8 101|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-15|a=sendrecv|",
        "v=0|o=bridge 7 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|"
        "m=audio 20000 RTP/AVP 0 101|a=rtpmap:0 PCMU/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-16|a=sendrecv|",
    ),
    "SIPp's built-in caller": (
        "v=0|o=user1 53655765 2353687637 IN IP4 127.0.0.1|s=-|c=IN IP4 127.0.0.1|t=0 0|m=audio 6000 RTP/AVP 0|"
        "a=rtpmap:0 PCMU/8000|",
        "v=0|o=bridge 7 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|"
        "m=audio 20000 RTP/AVP 0|a=rtpmap:0 PCMU/8000|a=sendrecv|",
    ),
    "the offer's order decides, its numbers are kept, its times too": (
        "v=0|o=- 1 1 IN IP4 198.51.100.7|s=-|c=IN IP4 198.51.100.7|t=3034423619 3042462419|"
        "m=audio 6000 RTP/AVP 111 97 9 96|a=rtpmap:111 opus/48000/2|a=rtpmap:97 pcma/8000/1|"
        "a=rtpmap:96 TELEPHONE-EVENT/8000|a=ptime:20|a=sendonly|",
        "v=0|o=bridge 7 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=3034423619 3042462419|"
        "m=audio 20000 RTP/AVP 97 96|a=rtpmap:97 PCMA/8000|a=rtpmap:96 telephone-event/8000|a=fmtp:96 0-16|a=recvonly|",
    ),
    "telephone-event at another clock rate is not for this codec": (
        HEAD + "m=audio 6000 RTP/AVP 8 100 101|a=rtpmap:100 telephone-event/48000|a=rtpmap:101 telephone-event/8000|",
        "v=0|o=bridge 7 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|"
        "m=audio 20000 RTP/AVP 8 101|a=rtpmap:8 PCMA/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-16|a=sendrecv|",
    ),
    "video and a second audio line are mirrored and refused": (
        HEAD + "m=video 6002 RTP/AVP 99 100|a=rtpmap:99 H264/90000|m=audio 6000 RTP/AVP 0|m=audio 6004 RTP/AVP 0|"
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel|",
        "v=0|o=bridge 7 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|m=video 0 RTP/AVP 99 100|"
        "m=audio 20000 RTP/AVP 0|a=rtpmap:0 PCMU/8000|a=sendrecv|m=audio 0 RTP/AVP 0|"
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel|",
    ),
    "an encrypted line is refused, the plain one beside it is taken": (
        HEAD + "m=audio 6000 RTP/SAVP 0|m=audio 6002 RTP/AVP 0|",
        "v=0|o=bridge 7 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|m=audio 0 RTP/SAVP 0|"
        "m=audio 20000 RTP/AVP 0|a=rtpmap:0 PCMU/8000|a=sendrecv|",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    given, expected = GOLDEN[name]
    assert shown(answered(given).description) == expected


def test_an_ipv6_session() -> None:
    local = LocalEnd("2001:db8::10", 20000, 7, 1)
    result = answered("v=0|o=- 1 1 IN IP6 ::1|s=-|c=IN IP6 2001:DB8:0::7|t=0 0|m=audio 6000 RTP/AVP 0|", local=local)
    assert "|c=IN IP6 2001:db8::10|" in shown(result.description)
    assert result.negotiated.remote_host == "2001:db8::7"  # as a socket writes it


def test_what_is_negotiated() -> None:
    text = HEAD + "m=audio 6000 RTP/AVP 8 0 101|c=IN IP4 203.0.113.5|a=rtpmap:101 telephone-event/8000|"
    assert answered(text).negotiated == Negotiated(
        codec=PCMA,
        telephone_event=101,
        remote_host="203.0.113.5",  # the stream's own c= goes before the session's
        remote_port=6000,
        direction="sendrecv",
        held=False,
        payload_types=(8, 101),
    )


@pytest.mark.parametrize(
    ("theirs", "wanted", "ours", "held"),
    [
        ("sendrecv", "sendrecv", "sendrecv", False),
        ("sendonly", "sendrecv", "recvonly", True),  # hold
        ("recvonly", "sendrecv", "sendonly", False),
        ("inactive", "sendrecv", "inactive", True),  # both sides hold
        ("sendrecv", "sendonly", "sendonly", False),  # our own hold
        ("sendonly", "sendonly", "inactive", True),
        ("recvonly", "recvonly", "inactive", False),
    ],
)
def test_directions(theirs: str, wanted: Direction, ours: Direction, held: bool) -> None:
    result = answered(HEAD + f"m=audio 6000 RTP/AVP 0|a={theirs}|", direction=wanted)
    assert (result.negotiated.direction, result.negotiated.held) == (ours, held)
    assert result.description.media[0].attribute(ours) == ""


def test_a_direction_for_the_session_counts_where_the_stream_has_none() -> None:
    assert answered(HEAD + "a=sendonly|m=audio 6000 RTP/AVP 0|").negotiated.held
    assert not answered(HEAD + "a=sendonly|m=audio 6000 RTP/AVP 0|a=sendrecv|").negotiated.held


def test_the_old_hold_by_an_address_of_zeros() -> None:
    result = answered(HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP4 0.0.0.0|")
    assert result.negotiated.held
    assert result.negotiated.direction == "recvonly"
    assert result.negotiated.remote_host == "0.0.0.0"
    assert answered(HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP4 0.0.0.0|a=recvonly|").negotiated.direction == "inactive"


def test_hold_resume_and_a_new_address() -> None:
    held = answered(HEAD + "m=audio 6000 RTP/AVP 0|a=sendonly|", local=LocalEnd("192.0.2.10", 20000, 7, 2))
    resumed = answered(HEAD + "m=audio 6000 RTP/AVP 0|", local=LocalEnd("192.0.2.10", 20000, 7, 3))
    moved = answered(HEAD + "m=audio 7000 RTP/AVP 0|c=IN IP4 203.0.113.9|", local=LocalEnd("192.0.2.10", 20000, 7, 4))
    assert [result.description.origin.version for result in (held, resumed, moved)] == ["2", "3", "4"]
    assert [result.negotiated.held for result in (held, resumed, moved)] == [True, False, False]
    assert (moved.negotiated.remote_host, moved.negotiated.remote_port) == ("203.0.113.9", 7000)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (HEAD + "m=audio 6000 RTP/AVP 18 9|", 305),
        (HEAD + "m=audio 6000 RTP/AVP 101|a=rtpmap:101 telephone-event/8000|", 305),  # events alone are no audio
        (HEAD + "m=audio 6000 RTP/AVP 0|a=rtpmap:0 G729/8000|", 305),  # an rtpmap goes before the static meaning
        (HEAD + "m=audio 6000 RTP/AVP 97|a=rtpmap:97 PCMU/16000|", 305),
        (HEAD + "m=audio 6000 RTP/AVP 97|a=rtpmap:97 PCMU/8000/2|", 305),
        (HEAD + "m=audio 6000 RTP/AVP 97|a=rtpmap:97 PCMU|", 305),
        (HEAD + "m=audio 6000 RTP/AVP 97|", 305),
        (HEAD + "m=audio 6000 RTP/SAVPF 0|", 302),
        (HEAD + "m=audio 6000 RTP/SAVP 0|m=audio 6002 RTP/AVP 18|", 302),
        (HEAD, 304),
        (HEAD + "m=video 6000 RTP/AVP 99|", 304),
        (HEAD + "m=audio 0 RTP/AVP 0|", 304),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP4 239.1.2.3/127|", 330),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP6 ff02::1|", 330),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP6 2001:db8::1|", 301),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP4 phone.example.com|", 301),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP4 192.168.001.010|", 301),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP6 not:an:address|", 301),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP6 fe80::1%eth0|", 301),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=IN E164 +123|", 301),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=ATM NSAP 47|", 300),
        ("v=0|o=- 1 1 IN IP4 192.0.2.1|s=-|t=0 0|m=audio 6000 RTP/AVP 0|", 300),
    ],
)
def test_what_cannot_be_agreed_on(text: str, code: int) -> None:
    assert refused(text).warning_code == code


def test_a_warning_text_carries_nothing_that_breaks_a_header() -> None:
    text = refused(HEAD + 'm=audio 6000 "\\\u0007évil 0|').warning_text
    assert text.isascii()
    assert text.isprintable()
    assert '"' not in text
    assert "\\" not in text


RTPMAPS = "".join(f"a=rtpmap:{number % 128} codec{number}/8000|" for number in range(2000))
FORMATS = " ".join(str(number) for number in range(128))


@pytest.mark.parametrize(
    "text",
    [
        HEAD + f"m=audio 6000 RTP/AVP {FORMATS}|{RTPMAPS}a=rtpmap:0 PCMU/8000|",
        HEAD + f"m=audio 6000 RTP/AVP {FORMATS}|a=rtpmap:0 x/8000|a=rtpmap:8 x/8000|" * 60,
        HEAD + "a=x|" * 4000 + "m=audio 6000 RTP/AVP 18|" * 60,
        HEAD + "m=audio 6000 RTP/AVP 96|a=rtpmap:96 " + "x" * 60_000 + "/8000|",
    ],
)
def test_hostile_offers_are_answered_in_linear_time(text: str) -> None:
    description = sdp(text)
    best = 1.0
    for _ in range(5):
        codecs._read_rtpmap.cache_clear()
        start = time.process_time()
        answer(description, US)
        best = min(best, time.process_time() - start)
    assert best < 0.010


def test_our_offer() -> None:
    assert shown(offer(US)) == (
        "v=0|o=bridge 7 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|m=audio 20000 RTP/AVP 0 8 101|"
        "a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-16|a=sendrecv|"
    )


def test_delayed_offer_and_its_answer_in_the_ack() -> None:
    ours = offer(US)
    theirs = sdp(HEAD + "m=audio 6000 RTP/AVP 8 96|a=rtpmap:96 telephone-event/8000|")
    assert read_answer(ours, theirs) == Negotiated(
        codec=PCMA,
        telephone_event=96,  # what we send is called as they call it
        remote_host="198.51.100.7",
        remote_port=6000,
        direction="sendrecv",
        held=False,
        payload_types=(8, 101, 96),  # what comes in is called as we called it, or by mistake as they did
    )


def test_both_sides_of_a_bargain_agree() -> None:
    ours = offer(US, codecs=(PCMU,), direction="sendonly")
    theirs = answer(ours, LocalEnd("203.0.113.5", 30000, 1, 1))
    assert isinstance(theirs, Answered)
    result = read_answer(ours, theirs.description)
    assert isinstance(result, Negotiated)
    assert result.codec == theirs.negotiated.codec == PCMU
    assert (result.direction, theirs.negotiated.direction) == ("sendonly", "recvonly")
    assert not result.held
    assert theirs.negotiated.held


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (HEAD, 304),
        (HEAD + "m=audio 0 RTP/AVP 0|", 304),
        (HEAD + "m=video 6000 RTP/AVP 0|", 304),
        (HEAD + "m=audio 6000 RTP/AVP 9|", 305),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP4 224.0.0.1|", 330),
    ],
)
def test_answers_that_fix_nothing(text: str, code: int) -> None:
    result = read_answer(offer(US), sdp(text))
    assert isinstance(result, Unacceptable)
    assert result.warning_code == code


def test_offered_codecs_are_named_in_order() -> None:
    text = HEAD + "m=video 1 RTP/AVP 34|m=audio 6000 RTP/AVP 111 0 9 101 77|a=rtpmap:111 opus/48000/2|"
    assert offered_codecs(sdp(text)) == ("opus/48000/2", "PCMU/8000", "G722/8000")
    assert offered_codecs(sdp(HEAD)) == ()


def test_unreadable_codec_names_are_not_shown_to_anybody() -> None:
    text = HEAD + f"m=audio 6000 RTP/AVP 97 98 0|a=rtpmap:97 {'x' * 100}/8000|a=rtpmap:98 \u0007/8000|"
    assert offered_codecs(sdp(text)) == ("PCMU/8000",)


def test_a_negotiation_survives_as_plain_data() -> None:
    negotiated = answered(HEAD + "m=audio 6000 RTP/AVP 0 101|a=rtpmap:101 telephone-event/8000|").negotiated
    stored = cast(dict[str, object], json.loads(json.dumps(negotiated.to_data())))
    assert Negotiated.from_data(stored) == negotiated
    with pytest.raises(ValueError, match="not a stored negotiation"):
        Negotiated.from_data({"codec": "PCMU"})
