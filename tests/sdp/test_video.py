"""A picture passed on: what is the same format in two descriptions, and what its numbers become."""

from __future__ import annotations

import pytest

from bridge.sdp.codecs import codecs_of
from bridge.sdp.description import SessionDescription
from bridge.sdp.negotiated import Answered, LocalEnd, Negotiated
from bridge.sdp.offer_answer import read_answer
from bridge.sdp.relaying import answer_as, mirrored_offer, video_payload_map
from bridge.sdp.video import format_map
from tests.sdp.phones import HEAD, THEIRS, sdp

FIRST = LocalEnd("192.0.2.10", 20000, 7, 1, video_port=20002)
SECOND = LocalEnd("192.0.2.10", 30000, 8, 1, video_port=30002)
H264 = "m=video 6002 RTP/AVP {0}|a=rtpmap:{0} H264/90000|a=fmtp:{0} {1}|"
VP9 = "m=video 6002 RTP/AVP {0}|a=rtpmap:{0} VP9/90000|a=fmtp:{0} {1}|"


def mapped(incoming: str, outgoing: str) -> tuple[tuple[int, int], ...]:
    one, other = (codecs_of(sdp(HEAD + text).media[0]) for text in (incoming, outgoing))
    return format_map(one, other)


@pytest.mark.parametrize(
    ("incoming", "outgoing", "expected"),
    [
        # the level may differ, the profile and the packetization mode may not (RFC 6184 §8.2.2)
        (H264.format(96, "profile-level-id=42e01f"), H264.format(97, "profile-level-id=42E00D"), ((96, 97),)),
        (H264.format(96, "profile-level-id=42e01f"), H264.format(97, "profile-level-id=64001f"), ()),
        (H264.format(96, "packetization-mode=1"), H264.format(97, "packetization-mode=0"), ()),
        (H264.format(96, "Packetization-Mode=0; x"), H264.format(97, "max-br=100"), ((96, 97),)),
        (H264.format(96, "packetization-mode=1"), H264.format(96, "packetization-mode=0"), ()),
        # where one leaves them out, the number tells
        (
            H264.format(96, "packetization-mode=1;profile-level-id=42801f"),
            H264.format(96, "profile-level-id=428014"),
            ((96, 96),),
        ),
        (H264.format(96, "packetization-mode=1"), H264.format(96, "max-br=100"), ((96, 96),)),
        (VP9.format(98, "profile-id=0"), VP9.format(99, "max-fr=30"), ((98, 99),)),
        (VP9.format(98, "profile-id=2"), VP9.format(99, "max-fr=30"), ()),
        (VP9.format(98, "profile-id=2"), H264.format(98, "profile-id=2"), ()),
    ],
)
def test_the_same_format(incoming: str, outgoing: str, expected: tuple[tuple[int, int], ...]) -> None:
    assert mapped(incoming, outgoing) == expected


def test_of_several_alike_the_one_of_the_same_number() -> None:
    several = "m=video 6002 RTP/AVP 102 106|a=rtpmap:102 H264/90000|a=rtpmap:106 H264/90000|a=fmtp:102 profile-level-id=42001f|"
    one = H264.format(106, "profile-level-id=42e01f")
    assert mapped(one, several) == ((106, 106),)
    assert mapped(several, one) == ((102, 106), (106, 106))


def test_retransmission_goes_with_the_format_it_repeats() -> None:
    text = (
        "m=video 6002 RTP/AVP 96 97 98 99|a=rtpmap:96 VP8/90000|a=rtpmap:97 rtx/90000|a=fmtp:97 apt=96|"
        "a=rtpmap:98 VP9/90000|a=rtpmap:99 rtx/90000|a=fmtp:99 apt=98|"
    )
    renumbered = "m=video 6002 RTP/AVP 98 99|a=rtpmap:98 VP8/90000|a=rtpmap:99 rtx/90000|a=fmtp:99 apt=98|"
    assert mapped(text, renumbered) == ((96, 98), (97, 99))


def joined(offered: str, answered: str) -> tuple[Answered, Negotiated]:
    """Both legs of a call whose parties say this of their picture."""
    source = sdp(HEAD + "m=audio 6000 RTP/AVP 0|" + offered)
    ours = mirrored_offer(source, SECOND)
    assert isinstance(ours, SessionDescription)
    second = read_answer(ours, sdp(THEIRS + "m=audio 7000 RTP/AVP 0|" + answered))
    assert isinstance(second, Negotiated)
    result = answer_as(source, FIRST, second)
    assert isinstance(result, Answered)
    return result, second


VP8_AND_RTX = "m=video 6002 RTP/AVP 96 97|a=rtpmap:96 VP8/90000|a=rtpmap:97 rtx/90000|a=fmtp:97 apt=96|"


def test_h264_and_vp8_where_the_second_party_takes_one() -> None:
    result, second = joined(
        "m=video 6002 RTP/AVP 96 97|a=rtpmap:96 H264/90000|a=fmtp:96 profile-level-id=42801f;packetization-mode=1|a=rtpmap:97 VP8/90000|",
        "m=video 7002 RTP/AVP 97|a=rtpmap:97 VP8/90000|a=recvonly|",
    )
    line = result.description.media[1]
    assert (line.port, line.formats, line.attributes) == (20002, ("97",), ("rtpmap:97 VP8/90000", "recvonly"))
    first = result.negotiated.video
    assert first is not None
    assert second.video is not None
    assert (first.remote_port, first.direction, second.video.direction) == (6002, "recvonly", "sendonly")
    assert video_payload_map(result.negotiated, second) == ((97, 97),)


@pytest.mark.parametrize(
    "answered",
    [
        "m=video 0 RTP/AVP 96|",
        "m=video 7002 RTP/AVP 120|a=rtpmap:120 H264/90000|",
        "m=video 7002 RTP/AVP 97|a=rtpmap:97 rtx/90000|a=fmtp:97 apt=96|",  # nothing to repeat
        "m=video 7002 RTP/AVP 96|c=IN IP4 239.1.2.3/127|a=rtpmap:96 VP8/90000|",
    ],
)
def test_without_a_picture_the_call_goes_on(answered: str) -> None:
    result, second = joined(VP8_AND_RTX, answered)
    assert second.video is None
    assert result.negotiated.video is None
    assert [media.port for media in result.description.media] == [20000, 0]
    assert result.description.media[1].formats == ("96", "97")


def test_one_format_answered_under_two_numbers_is_answered_once() -> None:
    result, second = joined(
        VP8_AND_RTX, "m=video 7002 RTP/AVP 96 100|a=rtpmap:96 VP8/90000|a=rtpmap:100 VP8/90000|a=rtcp-fb:100 nack|"
    )
    assert result.description.media[1].formats == ("96",)
    assert "rtcp-fb" not in "".join(result.description.media[1].attributes)
    assert video_payload_map(second, result.negotiated) == ((96, 96), (100, 96))


def test_red_passes_only_under_its_own_number() -> None:
    offered = "m=video 6002 RTP/AVP 96 116|a=rtpmap:96 VP8/90000|a=rtpmap:116 red/90000|"
    kept, _ = joined(offered, "m=video 7002 RTP/AVP 96 116|a=rtpmap:96 VP8/90000|a=rtpmap:116 red/90000|")
    assert kept.description.media[1].formats == ("96", "116")
    renumbered, _ = joined(offered, "m=video 7002 RTP/AVP 96 117|a=rtpmap:96 VP8/90000|a=rtpmap:117 red/90000|")
    assert renumbered.description.media[1].formats == ("96",)


def test_feedback_that_is_no_formats_or_nobody_may_see_stays_behind() -> None:
    result = mirrored_offer(
        sdp(
            HEAD
            + "m=audio 6000 RTP/AVP 0|m=video 6002 RTP/AVP 96 98|a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack pli|a=rtcp-fb:98 nack|"
            "a=rtcp-fb:* ccm fir|a=rtcp-fb:96 \u0007|a=rtcp-fb:96 " + "x" * 100 + "|" + "a=rtcp-fb:96 nack|" * 100
        ),
        SECOND,
    )
    assert isinstance(result, SessionDescription)
    feedback = list(result.media[1].values("rtcp-fb"))
    assert feedback[:2] == ["96 nack pli", "* ccm fir"]
    assert set(feedback[2:]) == {"96 nack"}
    assert len(feedback) == 64
