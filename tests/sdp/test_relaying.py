"""Two legs joined without transcoding, golden: the first party's offer in, the second party's offer out, and back."""

from __future__ import annotations

from bridge.sdp.codecs import PCMA, PCMU
from bridge.sdp.description import SessionDescription, parse
from bridge.sdp.negotiated import Answered, LocalEnd, Negotiated
from bridge.sdp.offer_answer import read_answer
from bridge.sdp.relaying import answer_as, can_relay, common_codec, mirrored_offer, payload_map, reoffer

FIRST = LocalEnd("192.0.2.10", 20000, 7, 1)
SECOND = LocalEnd("192.0.2.10", 30000, 8, 1)
HEAD = "v=0|o=alice 1 1 IN IP4 198.51.100.7|s=-|c=IN IP4 198.51.100.7|t=0 0|"
THEIRS = "v=0|o=bob 1 1 IN IP4 203.0.113.5|s=-|c=IN IP4 203.0.113.5|t=0 0|"


def sdp(text: str) -> SessionDescription:
    """A description from lines separated by bars."""
    description = parse(text.replace("|", "\r\n").encode())
    assert isinstance(description, SessionDescription), description
    return description


def shown(description: SessionDescription) -> str:
    return description.encode().decode().replace("\r\n", "|")


def mirrored(text: str) -> SessionDescription:
    result = mirrored_offer(sdp(text), SECOND)
    assert isinstance(result, SessionDescription), result
    return result


def agreed(ours: SessionDescription, text: str) -> Negotiated:
    result = read_answer(ours, sdp(text))
    assert isinstance(result, Negotiated), result
    return result


def test_one_call_from_offer_to_payload_map() -> None:
    offered = (
        HEAD + "m=audio 6000 RTP/AVP 111 8 0 18 100 101|a=rtpmap:111 opus/48000/2|a=fmtp:111 useinbandfec=1|"
        "a=rtpmap:100 telephone-event/48000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-15|a=ptime:20|"
    )
    ours = mirrored(offered)
    assert shown(ours) == (
        "v=0|o=bridge 8 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|m=audio 30000 RTP/AVP 111 8 0 100 101|"
        "a=rtpmap:111 opus/48000/2|a=rtpmap:8 PCMA/8000|a=rtpmap:0 PCMU/8000|a=rtpmap:100 telephone-event/48000|"
        "a=rtpmap:101 telephone-event/8000|a=fmtp:111 useinbandfec=1|a=fmtp:100 0-15|a=fmtp:101 0-15|a=ptime:20|a=sendrecv|"
    )
    second = agreed(ours, THEIRS + "m=audio 7000 RTP/AVP 8 96|a=rtpmap:96 telephone-event/8000|a=maxptime:40|")
    result = answer_as(sdp(offered), FIRST, second)
    assert isinstance(result, Answered)
    assert shown(result.description) == (
        "v=0|o=bridge 7 1 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|m=audio 20000 RTP/AVP 8 101|"
        "a=rtpmap:8 PCMA/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-15|a=maxptime:40|a=sendrecv|"
    )
    first = result.negotiated
    assert (first.codec, second.codec) == (PCMA, PCMA)
    assert can_relay(first, second)
    assert common_codec(first, second) == PCMA
    assert payload_map(first, second) == ((8, 8), (101, 96))
    assert payload_map(second, first) == ((8, 8), (101, 101), (96, 101))


def test_a_reoffer_for_hold_for_nothing_and_for_another_codec() -> None:
    ours = mirrored(HEAD + "m=audio 6000 RTP/AVP 8 97|a=rtpmap:97 telephone-event/8000|")
    held = reoffer(ours, SECOND, direction="sendonly")
    assert shown(held) == (
        "v=0|o=bridge 8 2 IN IP4 192.0.2.10|s=-|c=IN IP4 192.0.2.10|t=0 0|m=audio 30000 RTP/AVP 8 97|"
        "a=rtpmap:8 PCMA/8000|a=rtpmap:97 telephone-event/8000|a=fmtp:97 0-15|a=sendonly|"
    )
    assert reoffer(held, SECOND, direction="sendonly") is held
    assert reoffer(ours, SECOND, codecs=(PCMU,)).media[0].formats == ("0",)
