"""Offers of real phones, switches and gateways, with their own oddities; addresses and names are examples."""

from __future__ import annotations

from bridge.sdp.description import SessionDescription, parse

HEAD = "v=0|o=alice 1 1 IN IP4 198.51.100.7|s=-|c=IN IP4 198.51.100.7|t=0 0|"
THEIRS = "v=0|o=bob 1 1 IN IP4 203.0.113.5|s=-|c=IN IP4 203.0.113.5|t=0 0|"


def sdp(text: str) -> SessionDescription:
    """A description from lines separated by bars."""
    description = parse(text.replace("|", "\r\n").encode())
    assert isinstance(description, SessionDescription), description
    return description


def shown(description: SessionDescription) -> str:
    return description.encode().decode().replace("\r\n", "|")


BARESIP = (
    "v=0|o=- 3935062 1268 IN IP4 198.51.100.7|s=-|c=IN IP4 198.51.100.7|t=0 0|a=tool:baresip 1.1.0|"
    "m=audio 11488 RTP/AVP 96 9 0 8 101|a=rtpmap:96 opus/48000/2|a=fmtp:96 stereo=1;sprop-stereo=1|a=rtpmap:9 G722/8000|"
    "a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-15|a=rtcp:11489|a=sendrecv|"
    "a=label:1|a=rtcp-rsize|a=ssrc:2893465 cname:sip:alice@example.com|a=ptime:20|a=minptime:10|"
    "m=video 11490 RTP/AVP 97|a=rtpmap:97 H264/90000|a=fmtp:97 packetization-mode=0;profile-level-id=42e01f|a=rtcp:11491|"
    "a=sendrecv|a=label:2|a=rtcp-rsize|a=framerate:30.00|a=rtcp-fb:* nack pli|a=content:main|"
)
LINPHONE = (
    "v=0|o=alice 2171 2933 IN IP4 198.51.100.7|s=Talk|c=IN IP4 198.51.100.7|t=0 0|a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt|"
    "a=record:off|m=audio 7078 RTP/AVPF 96 97 98 0 8 18 101 99 100|a=rtpmap:96 opus/48000/2|a=fmtp:96 useinbandfec=1|"
    "a=rtpmap:97 speex/16000|a=fmtp:97 vbr=on|a=rtpmap:98 speex/8000|a=fmtp:98 vbr=on|a=fmtp:18 annexb=yes|"
    "a=rtpmap:101 telephone-event/48000|a=rtpmap:99 telephone-event/16000|a=rtpmap:100 telephone-event/8000|"
    "a=rtcp:7079|a=rtcp-fb:* trr-int 1000|a=rtcp-fb:* ccm tmmbr|"
    "m=video 9078 RTP/AVPF 102 103|a=rtpmap:102 VP8/90000|a=rtpmap:103 H264/90000|"
    "a=fmtp:103 profile-level-id=42801F;packetization-mode=1|a=rtcp-fb:* trr-int 1000|a=rtcp-fb:102 nack pli|"
    "a=rtcp-fb:102 ccm fir|a=rtcp-fb:103 nack pli|a=rtcp-fb:103 ccm fir|"
)
ASTERISK = (
    "v=0|o=- 1735938124 1735938124 IN IP4 198.51.100.20|s=Asterisk|c=IN IP4 198.51.100.20|t=0 0|"
    "m=audio 14206 RTP/AVP 9 0 8 107 101 102|a=rtpmap:9 G722/8000|a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|"
    "a=rtpmap:107 opus/48000/2|a=fmtp:107 useinbandfec=1|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-16|"
    "a=rtpmap:102 telephone-event/48000|a=fmtp:102 0-16|a=ptime:20|a=maxptime:140|a=sendrecv|"
)
CISCO = (
    "v=0|o=Cisco-SIPUA 14512 0 IN IP4 198.51.100.31|s=SIP Call|b=AS:4064|t=0 0|"
    "m=audio 24576 RTP/AVP 114 9 124 0 8 116 18 101|c=IN IP4 198.51.100.31|b=TIAS:64000|a=rtpmap:114 opus/48000/2|"
    "a=fmtp:114 maxplaybackrate=16000;sprop-maxcapturerate=16000;maxaveragebitrate=64000;stereo=0;sprop-stereo=0;usedtx=0|"
    "a=rtpmap:9 G722/8000|a=rtpmap:124 ISAC/16000|a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|a=rtpmap:116 iLBC/8000|"
    "a=fmtp:116 mode=20|a=rtpmap:18 G729/8000|a=fmtp:18 annexb=yes|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-15|"
    "a=sendrecv|a=trafficclass:conversational.audio.avconf.aq:admitted|"
)
POLYCOM = (
    "v=0|o=- 1512041 1512041 IN IP4 198.51.100.32|s=Polycom IP Phone|c=IN IP4 198.51.100.32|t=0 0|a=sendrecv|"
    "m=audio 2222 RTP/AVP 9 102 0 8 18 127|a=rtpmap:9 G722/8000|a=rtpmap:102 G7221/16000|a=fmtp:102 bitrate=32000|"
    "a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|a=rtpmap:18 G729/8000|a=fmtp:18 annexb=no|a=rtpmap:127 telephone-event/8000|"
)
TEAMS = (
    "v=0|o=- 35820 0 IN IP4 198.51.100.40|s=session|c=IN IP4 198.51.100.40|b=CT:10000000|t=0 0|"
    "m=audio 52316 RTP/AVP 104 9 103 111 18 0 8 97 101 13 118|a=rtcp:52317|a=label:main-audio|a=mid:1|"
    "a=rtpmap:104 SILK/16000|a=rtpmap:9 G722/8000|a=rtpmap:103 SILK/8000|a=rtpmap:111 SIREN/16000|a=fmtp:111 bitrate=16000|"
    "a=rtpmap:18 G729/8000|a=fmtp:18 annexb=no|a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|a=rtpmap:97 RED/8000|"
    "a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-16|a=rtpmap:13 CN/8000|a=rtpmap:118 CN/16000|a=ptime:20|a=sendrecv|"
)
# What a media gateway leaves of a browser's offer: plain RTP, everything else as the browser wrote it.
GATEWAY = (
    "v=0|o=mozilla...THIS_IS_SDPARTA-99.0 4962303333179871722 0 IN IP4 198.51.100.50|s=-|c=IN IP4 198.51.100.50|t=0 0|"
    "a=group:BUNDLE 0 1 2|a=ice-options:trickle|a=msid-semantic:WMS *|"
    "a=fingerprint:sha-256 6B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08|"
    "m=video 40000 RTP/AVPF 96 97 102 103 104 105 98 99 116 117|a=mid:0|a=ice-ufrag:F7gI|a=ice-pwd:x9cml/YzichV2+XlhiMu8g|"
    "a=setup:actpass|a=rtcp-mux|a=extmap:1 urn:ietf:params:rtp-hdrext:toffset|a=candidate:1 1 UDP 1 198.51.100.50 40000 typ host|"
    "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 goog-remb|a=rtcp-fb:96 ccm fir|a=rtcp-fb:96 nack pli|a=rtpmap:97 rtx/90000|a=fmtp:97 apt=96|"
    "a=rtpmap:102 H264/90000|a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f|"
    "a=rtcp-fb:102 nack pli|a=rtpmap:103 rtx/90000|a=fmtp:103 apt=102|a=rtpmap:104 H264/90000|"
    "a=fmtp:104 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f|a=rtpmap:105 rtx/90000|a=fmtp:105 apt=104|"
    "a=rtpmap:98 VP9/90000|a=fmtp:98 profile-id=0|a=rtpmap:99 rtx/90000|a=fmtp:99 apt=98|a=rtpmap:116 red/90000|"
    "a=rtpmap:117 ulpfec/90000|a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6|a=sendrecv|"
    "m=audio 40002 RTP/AVPF 111 63 9 0 8 13 110 126|a=mid:1|a=rtpmap:111 opus/48000/2|a=rtcp-fb:111 transport-cc|"
    "a=fmtp:111 minptime=10;useinbandfec=1|a=rtpmap:63 red/48000/2|a=fmtp:63 111/111|a=rtpmap:110 telephone-event/48000|"
    "a=rtpmap:126 telephone-event/8000|a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|a=sendrecv|"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel|a=mid:2|a=sctp-port:5000|"
)
BROWSER = (
    "v=0|o=- 4611731400430051336 2 IN IP4 127.0.0.1|s=-|t=0 0|a=group:BUNDLE 0|m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8 126|"
    "c=IN IP4 0.0.0.0|a=rtcp:9 IN IP4 0.0.0.0|a=setup:actpass|a=mid:0|a=rtcp-mux|a=rtpmap:111 opus/48000/2|"
)

OFFERS = {
    "baresip": BARESIP,
    "linphone": LINPHONE,
    "Asterisk": ASTERISK,
    "Cisco": CISCO,
    "Polycom": POLYCOM,
    "Teams": TEAMS,
    "a gateway before a browser": GATEWAY,
}

# What a second party answers to the mirror of each.
ANSWERS = {
    "baresip": THEIRS + "m=audio 7000 RTP/AVP 96 9 0 8 101|a=rtpmap:96 opus/48000/2|a=fmtp:96 stereo=0;sprop-stereo=0|"
    "a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-15|a=ptime:40|"
    "m=video 7002 RTP/AVP 97|a=rtpmap:97 H264/90000|a=fmtp:97 profile-level-id=42e00d|a=rtcp-fb:* nack pli|",
    "linphone": THEIRS + "m=audio 7000 RTP/AVP 96 101|a=rtpmap:96 opus/48000/2|a=rtpmap:101 telephone-event/48000|"
    "m=video 7002 RTP/AVP 120|a=rtpmap:120 VP8/90000|a=rtcp-fb:120 nack pli|a=rtcp-fb:120 ccm fir|",
    "Asterisk": THEIRS
    + "m=audio 7000 RTP/AVP 96 97|a=rtpmap:96 opus/48000/2|a=rtpmap:97 telephone-event/48000|a=recvonly|",
    "Cisco": THEIRS + "m=audio 7000 RTP/AVP 8|c=IN IP4 0.0.0.0|",
    "Polycom": THEIRS
    + "m=audio 7000 RTP/AVP 9 101|a=rtpmap:9 G722/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-11|",
    "Teams": THEIRS + "a=sendonly|m=audio 7000 RTP/AVP 0 101|a=rtpmap:101 telephone-event/8000|a=maxptime:30|",
    "a gateway before a browser": THEIRS + "m=video 7002 RTP/AVP 125 124 116|a=rtpmap:125 H264/90000|"
    "a=fmtp:125 profile-level-id=42E01F|a=rtpmap:124 rtx/90000|a=fmtp:124 apt=125|a=rtpmap:116 red/90000|a=rtcp-fb:125 nack|"
    "a=rtcp-fb:124 nack|a=rtcp-fb:99 nack|m=audio 7000 RTP/AVP 111 126|a=rtpmap:111 opus/48000/2|a=rtpmap:126 telephone-event/8000|",
}
