"""The offer/answer bargain for one audio stream: RFC 3264, with RFC 3551's static payload types, telephone-event
(RFC 4733), and the old hold by `c=0.0.0.0` (RFC 3264 §8.4).

`answer` mirrors every media line and takes the first audio line that fits; `offer` and `read_answer` are the other side
of the same bargain. What cannot be agreed on is a value with the `Warning` code of RFC 3261 §20.43, for a 488. Refuses to
know what carries the descriptions, and when; and what joins two legs, which is `relaying`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from bridge.sdp.codecs import (
    DEFAULT,
    EVENTS,
    PCMA,
    PCMU,
    TELEPHONE_EVENT,
    Codec,
    bare,
    codecs_of,
    first_in_common,
    in_common,
    with_event,
)
from bridge.sdp.description import Connection, Line, MediaDescription, Origin, SessionDescription, is_number
from bridge.sdp.media_lines import (
    INCOMPATIBLE_ADDRESS_FORMAT,
    INCOMPATIBLE_MEDIA_FORMAT,
    INCOMPATIBLE_NETWORK_PROTOCOL,
    INCOMPATIBLE_TRANSPORT_PROTOCOL,
    MEDIA_TYPE_NOT_AVAILABLE,
    MULTICAST_NOT_AVAILABLE,
    Direction,
    Unacceptable,
    address_type_of,
    audio_line,
    combined,
    direction_of,
    effective_direction,
    narrowed,
    reachable,
    receives,
    refused_line,
    sends,
    turned,
    usable,
)
from bridge.sdp.negotiated import Answered, LocalEnd, Negotiated, Stream
from bridge.sdp.video import read_video

__all__ = [
    "DEFAULT",
    "EVENTS",
    "INCOMPATIBLE_ADDRESS_FORMAT",
    "INCOMPATIBLE_MEDIA_FORMAT",
    "INCOMPATIBLE_NETWORK_PROTOCOL",
    "INCOMPATIBLE_TRANSPORT_PROTOCOL",
    "MEDIA_TYPE_NOT_AVAILABLE",
    "MULTICAST_NOT_AVAILABLE",
    "PCMA",
    "PCMU",
    "Answered",
    "Codec",
    "Direction",
    "LocalEnd",
    "Negotiated",
    "Unacceptable",
    "answer",
    "offer",
    "offered_codecs",
    "read_answer",
]

MAX_PTIME = 1000  # milliseconds; a second of audio in one packet is nobody's wish


def answer(
    description: SessionDescription,
    local: LocalEnd,
    *,
    codecs: Sequence[Codec] = DEFAULT,
    direction: Direction = "sendrecv",
) -> Answered | Unacceptable:
    """Answer an offer (§6): its first audio line that fits is taken, every other line is refused by port 0.

    The offer's order of codecs decides, and one codec is answered, so nobody changes it in mid-call. `direction` is what
    we would like to do ourselves; the offer may leave us less. Payload type numbers are the offer's.
    """
    refusal = Unacceptable(MEDIA_TYPE_NOT_AVAILABLE, "No audio stream offered")
    for place, media in enumerate(description.media):
        if media.kind != "audio" or media.port == 0:
            continue
        taken = _take(description, media, local, codecs, direction)
        if not isinstance(taken, Unacceptable):
            lines = [refused_line(other) for other in description.media]
            lines[place] = taken.description
            return Answered(answer_of(description, local, lines), taken.negotiated)
        # Of several audio lines that do not fit, the first says why.
        if refusal.warning_code == MEDIA_TYPE_NOT_AVAILABLE:
            refusal = taken
    return refusal


def offer(
    local: LocalEnd,
    *,
    codecs: Sequence[Codec] = DEFAULT,
    direction: Direction = "sendrecv",
) -> SessionDescription:
    """Our offer (§5): one audio stream with all of `codecs`, in their order."""
    return offer_of(local, [audio_line(local.port, "RTP/AVP", codecs, direction)])


def read_answer(our_offer: SessionDescription, description: SessionDescription) -> Negotiated | Unacceptable:
    """What the far end's answer to our offer fixes (§7). It has to take our audio line; a video line may be refused."""
    if len(description.media) != len(our_offer.media):
        return Unacceptable(MEDIA_TYPE_NOT_AVAILABLE, "Answer does not mirror the media lines of the offer")
    audio: Negotiated | Unacceptable | None = None
    video: Stream | None = None
    for ours, theirs in zip(our_offer.media, description.media, strict=True):
        if theirs.kind != ours.kind or theirs.port == 0 or ours.port == 0:
            continue
        if ours.kind == "audio" and audio is None:
            audio = _read_audio(our_offer, ours, description, theirs)
        elif ours.kind == "video" and video is None:
            video = read_video(our_offer, ours, description, theirs)
    if audio is None:
        return Unacceptable(MEDIA_TYPE_NOT_AVAILABLE, "Every media line of the offer was refused")
    if isinstance(audio, Unacceptable) or video is None:
        return audio
    return replace(audio, video=video)


def offered_codecs(description: SessionDescription) -> tuple[str, ...]:
    """The codecs of the first live audio line in the offer's order: "PCMU/8000"."""
    for media in description.media:
        if media.kind == "audio" and media.port != 0:
            return tuple([str(codec) for codec in codecs_of(media)])
    return ()


def offer_of(
    local: LocalEnd, lines: Sequence[MediaDescription], times: tuple[Line, ...] = (("t", "0 0"),)
) -> SessionDescription:
    """An offer of ours with these media lines (§5)."""
    address_type = address_type_of(local.address)
    origin = Origin(local.username, str(local.session_id), str(local.version), "IN", address_type, local.address)
    return SessionDescription(origin, "-", Connection("IN", address_type, local.address), (), tuple(lines), times)


def answer_of(
    description: SessionDescription, local: LocalEnd, lines: Sequence[MediaDescription]
) -> SessionDescription:
    """An answer of ours with these media lines. §6: its t= lines equal those of the offer."""
    times = tuple([line for line in description.other if line[0] == "t"]) or (("t", "0 0"),)
    return offer_of(local, lines, times)


def packet_times(media: MediaDescription) -> tuple[int | None, int | None]:
    """`ptime` and `maxptime` of a line (RFC 8866 §6.4 and §6.5) in milliseconds; None where absent or absurd."""
    ptime = maxptime = None
    for text in media.attributes:
        if text.startswith(("ptime:", "maxptime:")):
            name, _, value = text.partition(":")
            milliseconds = int(value) or None if is_number(value, MAX_PTIME) else None
            if name == "ptime":
                ptime = ptime or milliseconds
            else:
                maxptime = maxptime or milliseconds
    return ptime, maxptime


class _Taken(NamedTuple):
    description: MediaDescription
    negotiated: Negotiated


def _take(
    description: SessionDescription,
    media: MediaDescription,
    local: LocalEnd,
    codecs: Sequence[Codec],
    wanted: Direction,
) -> _Taken | Unacceptable:
    connection = usable(description, media, address_type_of(local.address))
    if isinstance(connection, Unacceptable):
        return connection
    audio, event = first_in_common(codecs_of(media), codecs)
    if audio is None:
        known = ", ".join(str(codec) for codec in codecs if codec.name != TELEPHONE_EVENT)
        return Unacceptable(INCOMPATIBLE_MEDIA_FORMAT, f"No common codec; understood: {known}")
    effective = effective_direction(description, media, connection)
    ours = narrowed(wanted, effective)
    agreed = with_event(audio, event)
    ptime, maxptime = packet_times(media)
    negotiated = Negotiated(
        codec=audio,
        telephone_event=event,
        remote_host=connection.address,
        remote_port=media.port,
        direction=ours,
        held=not receives(effective),
        payload_types=tuple([codec.payload_type for codec in agreed]),
        allowed=turned(effective),
        ptime=ptime,
        maxptime=maxptime,
    )
    return _Taken(audio_line(local.port, media.protocol, [bare(codec) for codec in agreed], ours), negotiated)


def _read_audio(
    our_offer: SessionDescription, ours: MediaDescription, description: SessionDescription, theirs: MediaDescription
) -> Negotiated | Unacceptable:
    connection = reachable(description, theirs, our_offer.origin.address_type)
    if isinstance(connection, Unacceptable):
        return connection
    offered, answered = codecs_of(ours), codecs_of(theirs)
    audio, event = first_in_common(answered, offered)
    if audio is None:
        return Unacceptable(INCOMPATIBLE_MEDIA_FORMAT, "No common codec in the answer")
    # They send with our numbers, we with theirs (§7); some send with their own all the same.
    common = {codec.encoding for codec in answered}
    incoming = [codec for codec in offered if codec.encoding in common]
    outgoing = in_common(answered, offered)
    incoming.extend(codec for codec in outgoing if codec.payload_type in (audio.payload_type, event))
    meaning = {codec.payload_type: bare(codec) for codec in reversed(incoming)}
    numbers = tuple(dict.fromkeys([codec.payload_type for codec in incoming]))
    wanted, effective = direction_of(our_offer, ours), effective_direction(description, theirs, connection)
    allowed = _allowed(wanted, effective)
    ptime, maxptime = packet_times(theirs)
    return Negotiated(
        codec=audio,
        telephone_event=event,
        remote_host=connection.address,
        remote_port=theirs.port,
        direction=narrowed(wanted, effective),
        held=not sends(allowed),
        payload_types=numbers,
        incoming=tuple([meaning[number] for number in numbers]),
        outgoing=tuple([bare(codec) if codec.is_event else codec for codec in outgoing]),
        allowed=allowed,
        ptime=ptime,
        maxptime=maxptime,
    )


def _allowed(wanted: Direction, theirs: Direction) -> Direction:
    """What an end that answers `theirs` would let us do: where we asked for nothing, its silence says nothing."""
    return combined(
        send=receives(theirs) or not sends(wanted),
        receive=sends(theirs) or not receives(wanted),
    )
