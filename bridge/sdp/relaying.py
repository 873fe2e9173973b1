"""Two legs that hear each other without transcoding: what RFC 3264 asks of a party between two bargains (a back-to-back user
agent), so that packets need no more than another payload type number.

`mirrored_offer` asks the second party for what the first has offered, `answer_as` tells the first what the second has
chosen, and `payload_map` says which number becomes which. Refuses to know why two legs are joined, and what carries the
descriptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bridge.sdp.codecs import IMPLIED_EVENTS, RELAYED, Codec, bare, codecs_of
from bridge.sdp.description import MediaDescription, SessionDescription
from bridge.sdp.media_lines import (
    INCOMPATIBLE_MEDIA_FORMAT,
    MEDIA_TYPE_NOT_AVAILABLE,
    Direction,
    Unacceptable,
    address_type_of,
    audio_line,
    both,
    effective_direction,
    narrowed,
    receives,
    refused_line,
    turned,
    usable,
)
from bridge.sdp.negotiated import Answered, LocalEnd, Negotiated, Stream
from bridge.sdp.offer_answer import answer_of, offer_of, packet_times
from bridge.sdp.video import answer_video_as, format_map, mirrored_video, renewed_video

MAX_PASSED = 16  # audio formats: more would be one codec under many numbers


def mirrored_offer(
    source: SessionDescription,
    local: LocalEnd,
    *,
    codecs: Sequence[Codec] = RELAYED,
    direction: Direction = "sendrecv",
) -> SessionDescription | Unacceptable:
    """The offer to the second party, made from the first party's: its codecs that may pass (`codecs`), in its order, under
    its numbers and with its format parameters.

    Its first audio line that fits is asked for, and its first video line if `local` has a port for it, with everything
    that is said of its formats. The others are left out: a line with port 0 has no meaning in a first offer (RFC 3264 §5.1),
    and the two sessions need not have the same lines. `direction` is what we would offer to do at most; a first party
    on hold leaves less.
    """
    refusal = Unacceptable(MEDIA_TYPE_NOT_AVAILABLE, "No audio stream offered")
    lines: dict[str, MediaDescription] = {}
    for media in source.media:
        if media.port == 0 or media.kind in lines:
            continue
        if media.kind == "audio":
            line = _mirrored_audio(source, media, local, codecs, direction)
        elif media.kind == "video" and local.video_port is not None:
            line = mirrored_video(source, media, local.video_port, direction)
        else:
            continue
        if not isinstance(line, Unacceptable):
            lines[media.kind] = line
        # Of several audio lines that do not fit, the first says why.
        elif media.kind == "audio" and refusal.warning_code == MEDIA_TYPE_NOT_AVAILABLE:
            refusal = line
    return offer_of(local, tuple(lines.values())) if "audio" in lines else refusal


def answer_as(
    offer: SessionDescription,
    local: LocalEnd,
    agreed: Negotiated | Sequence[Codec],
    *,
    direction: Direction = "sendrecv",
) -> Answered | Unacceptable:
    """Answer the first party's offer with what the second party has chosen, under the first party's numbers.

    Of a `Negotiated` everything counts that the second party may send, in its order, with its format parameters, its
    packet times, its hold, and its video if `local` has a port for it; of plain codecs the first that is offered too.
    Telephone-event is answered at each clock rate that both have, and with the first party's list of events. Every other
    line is refused by port 0.
    """
    refusal = Unacceptable(MEDIA_TYPE_NOT_AVAILABLE, "No audio stream offered")
    picture = agreed.video if isinstance(agreed, Negotiated) else None
    lines = [refused_line(media) for media in offer.media]
    audio: Negotiated | None = None
    video: Stream | None = None
    for place, media in enumerate(offer.media):
        if media.port == 0:
            continue
        if media.kind == "audio" and audio is None:
            taken = _answered_audio(offer, media, local, agreed, direction)
            if not isinstance(taken, Unacceptable):
                lines[place], audio = taken
            elif refusal.warning_code == MEDIA_TYPE_NOT_AVAILABLE:
                refusal = taken
        elif media.kind == "video" and video is None and picture is not None and local.video_port is not None:
            shown = answer_video_as(offer, media, local, picture, direction)
            if not isinstance(shown, Unacceptable):
                lines[place], video = shown
    if audio is None:
        return refusal
    return Answered(answer_of(offer, local, lines), audio if video is None else replace(audio, video=video))


def passed_on_direction(agreed: Negotiated) -> Direction:
    """What the other leg is to be offered, or answered, for what this party wants: a party that holds (by direction or by
    an address of zeros) sends and does not hear, so we offer to send and not to hear on its behalf."""
    return turned(agreed.allowed)


def can_relay(one: Negotiated, other: Negotiated) -> bool:
    """Whether both legs speak the same codec, so that their packets can be exchanged as they are."""
    return one.codec.encoding == other.codec.encoding


def common_codec(one: Negotiated, other: Negotiated) -> Codec | None:
    """A codec that both far ends take as things stand: the one both speak, or the first of `one` that `other` takes too.
    Its number is that of `one`."""
    if can_relay(one, other):
        return one.codec
    taken = {codec.encoding for codec in other.outgoing if not codec.is_event}
    return next((codec for codec in one.outgoing if codec.encoding in taken), None)


def payload_map(incoming_side: Negotiated, outgoing_side: Negotiated) -> tuple[tuple[int, int], ...]:
    """(number as it comes in on one leg, number the other leg's far end knows it by), for audio and telephone-event; what
    the other end does not take is not in it."""
    numbers: dict[tuple[str, int, int], int] = {}
    for codec in outgoing_side.outgoing:
        numbers.setdefault(codec.encoding, codec.payload_type)
    return tuple(
        [(codec.payload_type, numbers[codec.encoding]) for codec in incoming_side.incoming if codec.encoding in numbers]
    )


def video_payload_map(incoming_side: Negotiated, outgoing_side: Negotiated) -> tuple[tuple[int, int], ...]:
    """`payload_map` for the picture; empty where one of the two has none."""
    if incoming_side.video is None or outgoing_side.video is None:
        return ()
    return format_map(incoming_side.video.incoming, outgoing_side.video.outgoing)


def reoffer(
    current: SessionDescription,
    local: LocalEnd,
    *,
    codecs: Sequence[Codec] | None = None,
    direction: Direction = "sendrecv",
) -> SessionDescription:
    """Our next offer within a session, from the description we sent last (RFC 3264 §8): for hold and its end, for another
    codec, for another address.

    Lines keep their number and order; the first live audio line gets `codecs` (None: those it has) and `direction`, the first
    live video line `direction` if `local` has a port for it, other lines are refused. A codec keeps its number, and a new one
    takes none that means another (§8.3.2). `o=` is the session's for good, whoever carries it on; only its version rises,
    and only if something has changed.
    """
    lines = [refused_line(media) for media in current.media]
    places = {media.kind: place for place, media in reversed(tuple(enumerate(current.media))) if media.port != 0}
    if "audio" in places:
        lines[places["audio"]] = _renewed_audio(current.media[places["audio"]], local, codecs, direction)
    if "video" in places and local.video_port is not None:
        lines[places["video"]] = renewed_video(current.media[places["video"]], local.video_port, direction)
    connection = offer_of(local, ()).connection
    changed = current._replace(connection=connection, media=tuple(lines))
    if changed == current:
        return current
    return changed._replace(origin=current.origin._replace(version=str(int(current.origin.version) + 1)))


def _mirrored_audio(
    source: SessionDescription,
    media: MediaDescription,
    local: LocalEnd,
    codecs: Sequence[Codec],
    direction: Direction,
) -> MediaDescription | Unacceptable:
    connection = usable(source, media, None)
    if isinstance(connection, Unacceptable):
        return connection
    passing = _in_order(codecs_of(media), codecs)
    if all(codec.is_event for codec in passing):
        return _no_codec(codecs)
    offered = both(direction, effective_direction(source, media, connection))
    return audio_line(local.port, "RTP/AVP", passing, offered, _times(*packet_times(media)))


def _answered_audio(
    offer: SessionDescription,
    media: MediaDescription,
    local: LocalEnd,
    agreed: Negotiated | Sequence[Codec],
    wanted: Direction,
) -> tuple[MediaDescription, Negotiated] | Unacceptable:
    connection = usable(offer, media, address_type_of(local.address))
    if isinstance(connection, Unacceptable):
        return connection
    chosen = agreed.outgoing if isinstance(agreed, Negotiated) else agreed
    offered: dict[tuple[str, int, int], Codec] = {}
    for codec in codecs_of(media):
        offered.setdefault(codec.encoding, codec)
    pairs = {codec.encoding: (codec, offered[codec.encoding]) for codec in chosen if codec.encoding in offered}
    audio = [pair for pair in pairs.values() if not pair[0].is_event]
    if not audio:
        return _no_codec(chosen)
    if not isinstance(agreed, Negotiated):
        audio = audio[:1]
    events = [_explicit(theirs) for codec, theirs in pairs.values() if codec.is_event]
    answered = [codec._replace(payload_type=theirs.payload_type) for codec, theirs in audio] + events
    first = audio[0][1]
    if isinstance(agreed, Negotiated):
        wanted = both(wanted, passed_on_direction(agreed))
    effective = effective_direction(offer, media, connection)
    ours = narrowed(wanted, effective)
    ptime, maxptime = packet_times(media)
    negotiated = Negotiated(
        codec=first,
        telephone_event=next((event.payload_type for event in events if event.clock_rate == first.clock_rate), None),
        remote_host=connection.address,
        remote_port=media.port,
        direction=ours,
        held=not receives(effective),
        payload_types=tuple([codec.payload_type for codec in answered]),
        incoming=tuple([bare(codec) for codec in answered]),
        outgoing=(*[theirs for _, theirs in audio], *[bare(event) for event in events]),
        allowed=turned(effective),
        ptime=ptime,
        maxptime=maxptime,
    )
    times = _times(agreed.ptime, agreed.maxptime) if isinstance(agreed, Negotiated) else ()
    return audio_line(local.port, media.protocol, answered, ours, times), negotiated


def _renewed_audio(
    media: MediaDescription, local: LocalEnd, codecs: Sequence[Codec] | None, direction: Direction
) -> MediaDescription:
    before = codecs_of(media)
    asked = before if codecs is None else _numbered(codecs, before)
    return audio_line(local.port, media.protocol, asked, direction, _times(*packet_times(media)))


def _numbered(codecs: Iterable[Codec], before: Sequence[Codec]) -> list[Codec]:
    """These codecs under the numbers they had before, or under their own, or under the next that is free."""
    known = {codec.encoding: codec for codec in reversed(before)}
    used = {codec.payload_type for codec in before}
    found: list[Codec] = []
    for codec in codecs:
        had = known.get(codec.encoding)
        if had is not None:
            found.append(had if not codec.fmtp else had._replace(fmtp=codec.fmtp))
            continue
        free = (number for number in (codec.payload_type, *range(96, 128)) if number not in used)
        number = next(free, None)
        if number is not None:
            used.add(number)
            found.append(codec._replace(payload_type=number))
    return found


def _in_order(theirs: Iterable[Codec], passing: Iterable[Codec]) -> list[Codec]:
    """Their codecs that may pass, exactly as they wrote them."""
    encodings = {codec.encoding for codec in passing}
    return [_explicit(codec) for codec in theirs if codec.encoding in encodings][:MAX_PASSED]


def _explicit(codec: Codec) -> Codec:
    """Telephone-event with its list of events, where theirs goes without saying (RFC 4733 §2.4.1): ours has one more."""
    return codec._replace(fmtp=IMPLIED_EVENTS) if codec.is_event and not codec.fmtp else codec


def _times(ptime: int | None, maxptime: int | None) -> tuple[str, ...]:
    named = (("ptime", ptime), ("maxptime", maxptime))
    return tuple([f"{name}:{value}" for name, value in named if value is not None])


def _no_codec(codecs: Iterable[Codec]) -> Unacceptable:
    known = ", ".join(dict.fromkeys([str(codec) for codec in codecs if not codec.is_event]))
    return Unacceptable(INCOMPATIBLE_MEDIA_FORMAT, f"No common codec; understood: {known}")
