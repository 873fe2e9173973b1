"""Two legs joined without transcoding, golden: the first party's offer in, the second party's offer out, and back."""

from __future__ import annotations

import pytest

from bridge.sdp.codecs import DEFAULT, DTMF, G722, OPUS, PCMA, PCMU, RELAYED, Codec
from bridge.sdp.description import SessionDescription
from bridge.sdp.media_lines import Direction, Unacceptable
from bridge.sdp.negotiated import Answered, LocalEnd, Negotiated
from bridge.sdp.offer_answer import answer, offer, read_answer
from bridge.sdp.relaying import (
    answer_as,
    can_relay,
    common_codec,
    mirrored_offer,
    passed_on_direction,
    payload_map,
    reoffer,
    video_payload_map,
)
from tests.sdp.phones import ANSWERS, BROWSER, HEAD, OFFERS, THEIRS, sdp, shown

FIRST = LocalEnd("192.0.2.10", 20000, 7, 1, video_port=20002)
SECOND = LocalEnd("192.0.2.10", 30000, 8, 1, video_port=30002)
MIRROR = "v=0|o=bridge 8 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|"
REPLY = "v=0|o=bridge 7 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|"

# Offer to the second party, answer to the first, payload types (first to second, second to first), and those of video.
GOLDEN = {
    "baresip": (
        MIRROR
        + "m=audio 30000 RTP/AVP 96 9 0 8 101|a=rtpmap:96 opus/48000/2|a=rtpmap:9 G722/8000|a=rtpmap:0 PCMU/8000|"
        "a=rtpmap:8 PCMA/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:96 stereo=1;sprop-stereo=1|"
        "a=fmtp:101 0-15|a=ptime:20|a=sendrecv|m=video 30002 RTP/AVP 97|a=rtpmap:97 H264/90000|"
        "a=fmtp:97 packetization-mode=0;profile-level-id=42e01f|a=rtcp-fb:* nack pli|a=sendrecv|",
        REPLY + "m=audio 20000 RTP/AVP 96 9 0 8 101|a=rtpmap:96 opus/48000/2|a=rtpmap:9 G722/8000|a=rtpmap:0 PCMU/8000|"
        "a=rtpmap:8 PCMA/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:96 stereo=0;sprop-stereo=0|"
        "a=fmtp:101 0-15|a=ptime:40|a=sendrecv|m=video 20002 RTP/AVP 97|a=rtpmap:97 H264/90000|"
        "a=fmtp:97 profile-level-id=42e00d|a=rtcp-fb:* nack pli|a=sendrecv|",
        (((96, 96), (9, 9), (0, 0), (8, 8), (101, 101)), ((96, 96), (9, 9), (0, 0), (8, 8), (101, 101))),
        (((97, 97),), ((97, 97),)),
    ),
    "linphone": (
        MIRROR
        + "m=audio 30000 RTP/AVP 96 0 8 101 100|a=rtpmap:96 opus/48000/2|a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|"
        "a=rtpmap:101 telephone-event/48000|a=rtpmap:100 telephone-event/8000|a=fmtp:96 useinbandfec=1|"
        "a=fmtp:101 0-15|a=fmtp:100 0-15|a=sendrecv|m=video 30002 RTP/AVP 102 103|a=rtpmap:102 VP8/90000|"
        "a=rtpmap:103 H264/90000|a=fmtp:103 profile-level-id=42801F;packetization-mode=1|"
        "a=rtcp-fb:* trr-int 1000|a=rtcp-fb:102 nack pli|a=rtcp-fb:102 ccm fir|a=rtcp-fb:103 nack pli|"
        "a=rtcp-fb:103 ccm fir|a=sendrecv|",
        REPLY + "m=audio 20000 RTP/AVPF 96 101|a=rtpmap:96 opus/48000/2|a=rtpmap:101 telephone-event/48000|"
        "a=fmtp:101 0-15|a=sendrecv|m=video 20002 RTP/AVPF 102|a=rtpmap:102 VP8/90000|a=rtcp-fb:102 nack pli|"
        "a=rtcp-fb:102 ccm fir|a=sendrecv|",
        (((96, 96), (101, 101)), ((96, 96), (101, 101))),
        (((102, 120),), ((102, 102), (120, 102))),
    ),
    "Asterisk": (
        MIRROR
        + "m=audio 30000 RTP/AVP 9 0 8 107 101 102|a=rtpmap:9 G722/8000|a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|"
        "a=rtpmap:107 opus/48000/2|a=rtpmap:101 telephone-event/8000|a=rtpmap:102 telephone-event/48000|"
        "a=fmtp:107 useinbandfec=1|a=fmtp:101 0-16|a=fmtp:102 0-16|a=ptime:20|a=maxptime:140|a=sendrecv|",
        REPLY + "m=audio 20000 RTP/AVP 107 102|a=rtpmap:107 opus/48000/2|a=rtpmap:102 telephone-event/48000|"
        "a=fmtp:102 0-16|a=recvonly|",
        (((107, 96), (102, 97)), ((107, 107), (102, 102), (96, 107), (97, 102))),
        ((), ()),
    ),
    "Cisco": (
        MIRROR
        + "m=audio 30000 RTP/AVP 114 9 0 8 101|a=rtpmap:114 opus/48000/2|a=rtpmap:9 G722/8000|a=rtpmap:0 PCMU/8000|"
        "a=rtpmap:8 PCMA/8000|a=rtpmap:101 telephone-event/8000|"
        "a=fmtp:114 maxplaybackrate=16000;sprop-maxcapturerate=16000;maxaveragebitrate=64000;stereo=0;sprop-stereo=0;usedtx=0|"
        "a=fmtp:101 0-15|a=sendrecv|",
        REPLY + "m=audio 20000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=sendonly|",
        (((8, 8),), ((8, 8),)),
        ((), ()),
    ),
    "Polycom": (
        MIRROR + "m=audio 30000 RTP/AVP 9 0 8 127|a=rtpmap:9 G722/8000|a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|"
        "a=rtpmap:127 telephone-event/8000|a=fmtp:127 0-15|a=sendrecv|",
        REPLY + "m=audio 20000 RTP/AVP 9 127|a=rtpmap:9 G722/8000|a=rtpmap:127 telephone-event/8000|a=fmtp:127 0-15|"
        "a=sendrecv|",
        (((9, 9), (127, 101)), ((9, 9), (127, 127), (101, 127))),
        ((), ()),
    ),
    "Teams": (
        MIRROR + "m=audio 30000 RTP/AVP 9 0 8 101|a=rtpmap:9 G722/8000|a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|"
        "a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-16|a=ptime:20|a=sendrecv|",
        REPLY + "m=audio 20000 RTP/AVP 0 101|a=rtpmap:0 PCMU/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-16|"
        "a=maxptime:30|a=sendonly|",
        (((0, 0), (101, 101)), ((0, 0), (101, 101))),
        ((), ()),
    ),
    "a gateway before a browser": (
        MIRROR
        + "m=video 30002 RTP/AVP 96 97 102 103 104 105 98 99 116 117|a=rtpmap:96 VP8/90000|a=rtpmap:97 rtx/90000|"
        "a=rtpmap:102 H264/90000|a=rtpmap:103 rtx/90000|a=rtpmap:104 H264/90000|a=rtpmap:105 rtx/90000|"
        "a=rtpmap:98 VP9/90000|a=rtpmap:99 rtx/90000|a=rtpmap:116 red/90000|a=rtpmap:117 ulpfec/90000|"
        "a=fmtp:97 apt=96|a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f|"
        "a=fmtp:103 apt=102|a=fmtp:104 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f|"
        "a=fmtp:105 apt=104|a=fmtp:98 profile-id=0|a=fmtp:99 apt=98|a=rtcp-fb:96 goog-remb|a=rtcp-fb:96 ccm fir|"
        "a=rtcp-fb:96 nack pli|a=rtcp-fb:102 nack pli|a=sendrecv|m=audio 30000 RTP/AVP 111 9 0 8 110 126|"
        "a=rtpmap:111 opus/48000/2|a=rtpmap:9 G722/8000|a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|"
        "a=rtpmap:110 telephone-event/48000|a=rtpmap:126 telephone-event/8000|"
        "a=fmtp:111 minptime=10;useinbandfec=1|a=fmtp:110 0-15|a=fmtp:126 0-15|a=sendrecv|",
        REPLY + "m=video 20002 RTP/AVPF 104 105 116|a=rtpmap:104 H264/90000|a=rtpmap:105 rtx/90000|"
        "a=rtpmap:116 red/90000|a=fmtp:104 profile-level-id=42E01F|a=fmtp:105 apt=104|a=rtcp-fb:104 nack|"
        "a=rtcp-fb:105 nack|a=sendrecv|m=audio 20000 RTP/AVPF 111 126|a=rtpmap:111 opus/48000/2|"
        "a=rtpmap:126 telephone-event/8000|a=fmtp:126 0-15|a=sendrecv|"
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel|",
        (((111, 111), (126, 126)), ((111, 111), (126, 126))),
        (((104, 125), (105, 124), (116, 116)), ((104, 104), (105, 105), (116, 116), (125, 104), (124, 105))),
    ),
}


def mirrored(text: str, local: LocalEnd = SECOND) -> SessionDescription:
    result = mirrored_offer(sdp(text), local)
    assert isinstance(result, SessionDescription), result
    return result


def agreed(ours: SessionDescription, text: str) -> Negotiated:
    result = read_answer(ours, sdp(text))
    assert isinstance(result, Negotiated), result
    return result


def replied(text: str, second: Negotiated | tuple[Codec, ...], *, direction: Direction = "sendrecv") -> Answered:
    result = answer_as(sdp(text), FIRST, second, direction=direction)
    assert isinstance(result, Answered), result
    return result


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    to_second, to_first, payload_types, of_video = GOLDEN[name]
    ours = mirrored(OFFERS[name])
    assert shown(ours) == to_second
    second = agreed(ours, ANSWERS[name])
    result = replied(OFFERS[name], second)
    assert shown(result.description) == to_first
    first = result.negotiated
    assert can_relay(first, second)
    assert (payload_map(first, second), payload_map(second, first)) == payload_types
    assert (video_payload_map(first, second), video_payload_map(second, first)) == of_video


MIRRORED_LINES = {
    "opus alone": (
        HEAD + "m=audio 6000 RTP/AVP 120|a=rtpmap:120 OPUS/48000/2|",
        "m=audio 30000 RTP/AVP 120|a=rtpmap:120 OPUS/48000/2|a=sendrecv|",
    ),
    "telephone-event at 48000 only": (
        HEAD + "m=audio 6000 RTP/AVP 111 110|a=rtpmap:111 opus/48000/2|a=rtpmap:110 telephone-event/48000|",
        "m=audio 30000 RTP/AVP 111 110|a=rtpmap:111 opus/48000/2|a=rtpmap:110 telephone-event/48000|a=fmtp:110 0-15|a=sendrecv|",
    ),
    "static payload types without rtpmap": (
        HEAD + "m=audio 6000 RTP/AVP 18 9 8 0 3 13|",
        "m=audio 30000 RTP/AVP 9 8 0|a=rtpmap:9 G722/8000|a=rtpmap:8 PCMA/8000|a=rtpmap:0 PCMU/8000|a=sendrecv|",
    ),
    "payload type numbers named twice, and explained twice": (
        HEAD
        + "m=audio 6000 RTP/AVP 96 8 96 8|a=rtpmap:96 opus/48000/2|a=rtpmap:96 PCMU/8000|a=fmtp:96 a=1|a=fmtp:96 b=2|",
        "m=audio 30000 RTP/AVP 96 8|a=rtpmap:96 opus/48000/2|a=rtpmap:8 PCMA/8000|a=fmtp:96 a=1|a=sendrecv|",
    ),
    "one codec under two numbers": (
        HEAD + "m=audio 6000 RTP/AVP 0 97|a=rtpmap:97 PCMU/8000|",
        "m=audio 30000 RTP/AVP 0 97|a=rtpmap:0 PCMU/8000|a=rtpmap:97 PCMU/8000|a=sendrecv|",
    ),
    "G722 under its true sampling rate is another codec": (
        HEAD + "m=audio 6000 RTP/AVP 9 0|a=rtpmap:9 G722/16000|",
        "m=audio 30000 RTP/AVP 0|a=rtpmap:0 PCMU/8000|a=sendrecv|",
    ),
    "two audio lines: the first that fits": (
        HEAD + "m=audio 6000 RTP/SAVP 0|m=audio 6002 RTP/AVP 18|m=audio 6004 RTP/AVP 8|m=audio 6006 RTP/AVP 0|",
        "m=audio 30000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=sendrecv|",
    ),
    "lines with port 0 are not there": (
        HEAD + "m=audio 0 RTP/AVP 0|m=video 0 RTP/AVP 34|m=audio 6004 RTP/AVP 8|m=image 0 udptl t38|",
        "m=audio 30000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=sendrecv|",
    ),
    "video before audio, static and unexplained formats": (
        HEAD + "m=video 6000 RTP/AVP 34 99 31|m=audio 6004 RTP/AVP 8|m=video 6006 RTP/AVP 31|",
        "m=video 30002 RTP/AVP 34 31|a=rtpmap:34 H263/90000|a=rtpmap:31 H261/90000|a=sendrecv|"
        "m=audio 30000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=sendrecv|",
    ),
    "video that cannot be shown is left out": (
        HEAD + "m=audio 6004 RTP/AVP 8|m=video 6000 RTP/AVP 96|a=rtpmap:96 rtx/90000|a=fmtp:96 apt=97|",
        "m=audio 30000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=sendrecv|",
    ),
    "encrypted video is left out": (
        HEAD + "m=audio 6004 RTP/AVP 8|m=video 6000 RTP/SAVP 34|",
        "m=audio 30000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=sendrecv|",
    ),
    "packet times that are none": (
        HEAD + "m=audio 6004 RTP/AVP 8|a=ptime:0|a=ptime:|a=ptime:20.5|a=maxptime:99999|a=maxptime:60|",
        "m=audio 30000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=maxptime:60|a=sendrecv|",
    ),
    "parameters that nobody may see": (
        HEAD
        + f"m=audio 6004 RTP/AVP 96 97|a=rtpmap:96 opus/48000/2|a=rtpmap:97 opus/48000/2|a=fmtp:96 \u0007|a=fmtp:97 {'x' * 600}|",
        "m=audio 30000 RTP/AVP 96 97|a=rtpmap:96 opus/48000/2|a=rtpmap:97 opus/48000/2|a=sendrecv|",
    ),
    "on hold from the start": (
        HEAD + "a=sendonly|m=audio 6004 RTP/AVP 8|m=video 6000 RTP/AVP 34|a=inactive|",
        "m=audio 30000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=sendonly|"
        "m=video 30002 RTP/AVP 34|a=rtpmap:34 H263/90000|a=inactive|",
    ),
    "on hold the old way": (
        HEAD + "m=audio 6004 RTP/AVP 8|c=IN IP4 0.0.0.0|",
        "m=audio 30000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=sendonly|",
    ),
    "the other address family is the other leg's affair": (
        HEAD + "m=audio 6004 RTP/AVP 8|c=IN IP6 2001:db8::7|",
        "m=audio 30000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=sendrecv|",
    ),
}


@pytest.mark.parametrize("name", MIRRORED_LINES)
def test_mirrored_lines(name: str) -> None:
    given, expected = MIRRORED_LINES[name]
    assert shown(mirrored(given)) == MIRROR + expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (HEAD + "m=audio 6000 RTP/AVP 18|a=rtpmap:18 G729/8000|a=fmtp:18 annexb=no|", 305),
        (HEAD + "m=audio 6000 RTP/AVP 101|a=rtpmap:101 telephone-event/8000|", 305),  # events alone are no audio
        (HEAD + "m=audio 6000 RTP/AVP 96|a=rtpmap:96 opus/48000|", 305),  # RFC 7587 §7: always two channels
        (HEAD + "m=video 6000 RTP/AVP 34|", 304),
        (HEAD + "m=audio 0 RTP/AVP 0|", 304),
        (HEAD + "m=audio 6000 RTP/AVP 0|c=IN IP4 239.1.2.3/127|", 330),
        (BROWSER, 302),
    ],
)
def test_what_cannot_be_passed_on(text: str, code: int) -> None:
    ours = mirrored_offer(sdp(text), SECOND)
    assert isinstance(ours, Unacceptable)
    assert ours.warning_code == code
    theirs = answer_as(sdp(text), FIRST, RELAYED)
    assert isinstance(theirs, Unacceptable)
    assert theirs.warning_code == code


def test_no_video_without_a_port_for_it() -> None:
    text = HEAD + "m=video 6002 RTP/AVP 34|m=audio 6000 RTP/AVP 0|"
    deaf = LocalEnd("192.0.2.10", 30000, 8, 1)
    assert [media.kind for media in mirrored(text, deaf).media] == ["audio"]
    second = agreed(mirrored(text), THEIRS + "m=video 7002 RTP/AVP 34|m=audio 7000 RTP/AVP 0|")
    result = answer_as(sdp(text), deaf, second)
    assert isinstance(result, Answered)
    assert [media.port for media in result.description.media] == [0, 30000]
    assert result.negotiated.video is None
    assert video_payload_map(result.negotiated, second) == ()


def test_the_codecs_of_a_plan_limit_what_passes() -> None:
    ours = mirrored_offer(sdp(OFFERS["Asterisk"]), SECOND, codecs=DEFAULT)
    assert isinstance(ours, SessionDescription)
    assert ours.media[0].formats == ("0", "8", "101")


def test_our_own_offer_where_the_first_party_made_none() -> None:
    assert shown(offer(SECOND, codecs=RELAYED)) == (
        MIRROR + "m=audio 30000 RTP/AVP 111 9 0 8 101 110|a=rtpmap:111 opus/48000/2|a=rtpmap:9 G722/8000|"
        "a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|a=rtpmap:101 telephone-event/8000|a=rtpmap:110 telephone-event/48000|"
        "a=fmtp:101 0-16|a=fmtp:110 0-16|a=sendrecv|"
    )


def test_of_plain_codecs_the_first_that_is_offered_is_answered() -> None:
    result = replied(OFFERS["Asterisk"], (OPUS._replace(fmtp="stereo=0"), PCMA, DTMF))
    assert shown(result.description) == (
        REPLY + "m=audio 20000 RTP/AVP 107 101|a=rtpmap:107 opus/48000/2|a=rtpmap:101 telephone-event/8000|"
        "a=fmtp:107 stereo=0|a=fmtp:101 0-16|a=sendrecv|"
    )
    assert result.negotiated.codec.fmtp == "useinbandfec=1"  # what we send by is theirs
    assert result.negotiated.telephone_event is None  # none at the clock rate of opus, yet it may come in
    assert result.negotiated.payload_types == (107, 101)


def test_a_codec_the_first_party_did_not_offer() -> None:
    second = agreed(offer(SECOND, codecs=RELAYED), THEIRS + "m=audio 7000 RTP/AVP 9|")
    result = answer_as(sdp(HEAD + "m=audio 6000 RTP/AVP 0|"), FIRST, second)
    assert result == Unacceptable(305, "No common codec; understood: G722/8000")


def test_legs_that_speak_different_codecs() -> None:
    first = agreed(
        offer(FIRST, codecs=RELAYED), HEAD + "m=audio 6000 RTP/AVP 9 8 101|a=rtpmap:101 telephone-event/8000|"
    )
    second = agreed(
        offer(SECOND),
        THEIRS + "m=audio 7000 RTP/AVP 0 8 96 101|a=rtpmap:96 telephone-event/8000|a=rtpmap:101 PCMU/8000|",
    )
    third = agreed(offer(SECOND), THEIRS + "m=audio 7000 RTP/AVP 0|")
    assert (first.codec, second.codec) == (G722, PCMU)
    assert not can_relay(first, second)
    assert common_codec(first, second) == PCMA
    assert payload_map(first, second) == ((8, 8), (101, 96))  # G722 has no counterpart
    assert common_codec(first, third) is None
    assert payload_map(first, third) == ()


@pytest.mark.parametrize(
    ("line", "direction"),
    [
        ("a=sendrecv|", "sendrecv"),
        ("a=sendonly|", "sendonly"),
        ("a=recvonly|", "recvonly"),
        ("a=inactive|", "inactive"),
        ("c=IN IP4 0.0.0.0|", "sendonly"),
        ("c=IN IP4 0.0.0.0|a=recvonly|", "inactive"),
    ],
)
def test_a_hold_is_passed_on(line: str, direction: Direction) -> None:
    held = answer(sdp(HEAD + "m=audio 6000 RTP/AVP 0|" + line), FIRST)
    assert isinstance(held, Answered)
    assert passed_on_direction(held.negotiated) == direction
    assert direction in mirrored(HEAD + "m=audio 6000 RTP/AVP 0|" + line).media[0].attributes
    # and the other way: the second party begins on hold
    second = agreed(offer(SECOND, codecs=(PCMU,)), THEIRS + "m=audio 7000 RTP/AVP 0|" + line)
    assert direction in replied(HEAD + "m=audio 6000 RTP/AVP 0|", second).description.media[0].attributes


def test_a_party_that_was_held_may_be_taken_back() -> None:
    """What we kept from a party is no wish of its own: it must not come back to the other one as a hold."""
    ours = reoffer(offer(SECOND), SECOND, direction="sendonly")
    second = agreed(ours, THEIRS + "m=audio 7000 RTP/AVP 0|a=recvonly|")
    assert (second.direction, second.allowed, second.held) == ("sendonly", "sendrecv", False)
    assert passed_on_direction(second) == "sendrecv"
    ours = reoffer(offer(SECOND), SECOND, direction="inactive")
    second = agreed(ours, THEIRS + "m=audio 7000 RTP/AVP 0|a=inactive|")
    assert (second.direction, second.held, passed_on_direction(second)) == ("inactive", False, "sendrecv")


def test_a_reoffer_keeps_lines_numbers_and_origin() -> None:
    text = HEAD + "m=image 6006 udptl t38|m=video 6002 RTP/AVP 34|m=audio 6000 RTP/AVP 96 97|a=rtpmap:96 opus/48000/2|"
    second = agreed(
        offer(SECOND, codecs=RELAYED),
        THEIRS + "m=audio 7000 RTP/AVP 111|a=rtpmap:111 opus/48000/2|a=fmtp:111 stereo=0|",
    )
    current = replied(text, second).description
    moved = LocalEnd("192.0.2.99", 40000, 1, 50, username="heir")
    assert shown(reoffer(current, moved, codecs=(PCMU, Codec("PCMA", 8000, 1, 96), OPUS, DTMF))) == (
        "v=0|o=bridge 7 2 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.99|t=0 0|m=image 0 udptl t38|m=video 0 RTP/AVP 34|"
        "m=audio 40000 RTP/AVP 0 97 96 101|a=rtpmap:0 PCMU/8000|a=rtpmap:97 PCMA/8000|a=rtpmap:96 opus/48000/2|"
        "a=rtpmap:101 telephone-event/8000|a=fmtp:96 stereo=0|a=fmtp:101 0-16|a=sendrecv|"
    )


def test_a_reoffer_holds_and_resumes_the_picture_too() -> None:
    current = mirrored(OFFERS["baresip"])
    held = reoffer(current, SECOND, direction="sendonly")
    assert [("sendonly" in media.attributes, media.port) for media in held.media] == [(True, 30000), (True, 30002)]
    resumed = reoffer(held, SECOND)
    assert (resumed.media, resumed.origin.version) == (current.media, "3")


def test_a_reoffer_that_changes_nothing_keeps_its_version() -> None:
    current = mirrored(OFFERS["baresip"])
    assert reoffer(current, SECOND) is current
    # a session without a live line has nothing to change
    ended = sdp(MIRROR + "m=audio 0 RTP/AVP 0|")
    assert reoffer(ended, SECOND, direction="sendonly") is ended
