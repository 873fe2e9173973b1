"""From what offer and answer agreed on to what a media worker shall do: compiles a call's `Rule` (contract §8)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

from bridge.calls.call import Call
from bridge.calls.facts import CallId
from bridge.rtp.rules import Rule
from bridge.sdp.offer_answer import Negotiated
from bridge.sdp.relaying import can_relay, payload_map, video_payload_map

_CARRIER_GRADE_NAT = IPv4Network("100.64.0.0/10")  # RFC 6598
_VIDEO_CLOCK_RATE = 90_000  # Hz, of every video format (RFC 3551 §5)
_SILENT_CODECS = {"PCMU": 0, "PCMA": 8}  # what silence the worker can make, by its static payload type


def video_session(call: CallId) -> str:
    """How the session of a call's picture is called; its sound has the call's own name."""
    return f"{call}/video"


def rule_of(call: Call, peer: Call | None = None) -> Rule:
    """The rule for the stream as it stands now. Only for a call whose media is negotiated.

    `peer`: the call that it is linked with. It is heard there as soon as both have agreed on one codec, so that early media
    passes too.
    """
    agreed = call.negotiated
    if agreed is None:
        raise AssertionError("no stream has been negotiated")
    nowhere = agreed.remote_port == 0 or agreed.remote_host in ("0.0.0.0", "::")  # noqa: S104 -- the old hold
    behind_nat = not nowhere and is_behind_nat(agreed.remote_host, call.way.host, via_host=call.via_host)
    sources = (agreed.remote_host, call.way.host) if behind_nat else (agreed.remote_host,)
    sends = agreed.direction in ("sendrecv", "sendonly")
    heard_by, mapped = _heard_by(call, agreed, peer)
    return Rule(
        remote_host=None if nowhere else agreed.remote_host,
        remote_port=0 if nowhere else agreed.remote_port,
        sources=sources,
        latching=call.latching,
        behind_nat=behind_nat,
        payload_types=agreed.payload_types,
        silence_payload_type=_SILENT_CODECS.get(agreed.codec.name) if sends else None,
        clock_rate=agreed.codec.clock_rate,
        generation=call.media_generation,
        expects_media=agreed.direction == "sendrecv" and not nowhere,  # who holds us may well send nothing
        relay_to=heard_by,
        payload_map=mapped,
        muted=call.muted,
        dtmf_payload_types=tuple([codec.payload_type for codec in agreed.incoming if codec.is_event]),
    )


def video_rule_of(call: Call, peer: Call | None = None) -> Rule | None:
    """The rule for its picture; None where it has none. A picture is only ever passed on."""
    agreed = call.negotiated
    if agreed is None or agreed.video is None:
        return None
    stream = agreed.video
    nowhere = stream.remote_port == 0 or stream.remote_host in ("0.0.0.0", "::")  # noqa: S104 -- the old hold
    behind_nat = not nowhere and is_behind_nat(stream.remote_host, call.way.host, via_host=call.via_host)
    mapped: tuple[tuple[int, int], ...] = ()
    if peer is not None and peer.negotiated is not None and call.link is not None and call.link.peer == peer.id:
        mapped = video_payload_map(agreed, peer.negotiated)
    return Rule(
        remote_host=None if nowhere else stream.remote_host,
        remote_port=0 if nowhere else stream.remote_port,
        sources=(stream.remote_host, call.way.host) if behind_nat else (stream.remote_host,),
        latching=call.latching,
        behind_nat=behind_nat,
        payload_types=stream.payload_types,
        silence_payload_type=None,
        clock_rate=_VIDEO_CLOCK_RATE,
        generation=call.media_generation,
        expects_media=False,  # a camera that is covered is no lost call
        relay_to=video_session(peer.id) if peer is not None and mapped else None,
        payload_map=mapped,
    )


def _heard_by(call: Call, agreed: Negotiated, peer: Call | None) -> tuple[str | None, tuple[tuple[int, int], ...]]:
    """The session that hears this call, and what its payload types are called there."""
    if peer is None or peer.negotiated is None or call.link is None or call.link.peer != peer.id:
        return None, ()
    hears = peer.negotiated.direction in ("sendrecv", "sendonly") and not peer.on_hold
    if not hears or not can_relay(agreed, peer.negotiated):
        return None, ()
    return peer.id, payload_map(agreed, peer.negotiated)


def is_behind_nat(media_host: str, signalling_host: str, *, via_host: str) -> bool:
    """True where packets will not come from the address that the SDP names.

    That is so when SDP names a private address and the signalling came from another one, or when a NAT has rewritten the
    source of the signalling (Via's sent-by is not where it came from) and SDP names neither.
    """
    if media_host == signalling_host:
        return False
    media, signalling, via = _address(media_host), _address(signalling_host), _address(via_host)
    if media is not None and media == signalling:
        return False  # IPv6 has many spellings
    if media is None or media.is_private or (isinstance(media, IPv4Address) and media in _CARRIER_GRADE_NAT):
        return True
    return via is not None and via != signalling


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None
