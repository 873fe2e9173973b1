"""Video that is passed on as it is: one picture beside the audio of two joined legs, every format with its rtpmap, fmtp and
feedback (RFC 4585 §4.2) as its party wrote them.

What counts as the same format in two descriptions is RFC 6184 §8.2.2 (H.264: packetization mode and profile), RFC 9628 (VP9:
profile), RFC 4588 §8.6 (retransmission goes with the format it repeats) and the payload type number. Refuses to know what a
picture is, and when it is asked for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from bridge.sdp.codecs import Codec, codecs_of, is_plain
from bridge.sdp.description import MediaDescription, SessionDescription, is_number
from bridge.sdp.media_lines import (
    INCOMPATIBLE_MEDIA_FORMAT,
    Direction,
    Unacceptable,
    address_type_of,
    both,
    direction_of,
    effective_direction,
    narrowed,
    reachable,
    turned,
    usable,
)
from bridge.sdp.negotiated import LocalEnd, Stream

MAX_PASSED = 24  # formats of one line: no phone has more, a browser about as many
MAX_FEEDBACKS = 64  # rtcp-fb lines
MAX_FEEDBACK = 80  # characters of one

_PROFILE = "profile-level-id"
# What both ends must have alike, with what its absence means. Names in lower case.
_SYMMETRIC: Mapping[str, tuple[tuple[str, str], ...]] = {
    "h264": ((_PROFILE, "42"), ("packetization-mode", "0")),  # 42: the Baseline profile
    "vp9": (("profile-id", "0"),),
    "av1": (("profile", "0"),),
    "h265": (("profile-id", "1"), ("tier-flag", "0")),
}
_RETRANSMISSION = "rtx"
_NAMED_WITHIN = frozenset({"red", "ulpfec"})  # their packets carry payload type numbers inside, which nobody maps
_BESIDE = frozenset({_RETRANSMISSION, "flexfec-03", "flexfec"}) | _NAMED_WITHIN  # nothing to see without another format


class AnsweredVideo(NamedTuple):
    """Our line for a picture, and what it fixes."""

    description: MediaDescription
    stream: Stream


def offers_video(description: SessionDescription) -> bool:
    """Whether it has a live video line."""
    return any(media.kind == "video" and media.port for media in description.media)


def mirrored_video(
    source: SessionDescription, media: MediaDescription, port: int, direction: Direction
) -> MediaDescription | Unacceptable:
    """The line that asks the second party for what this line of the first party's offers."""
    connection = usable(source, media, None)
    if isinstance(connection, Unacceptable):
        return connection
    formats = _passing(media)
    if not formats:
        return _NO_FORMAT
    offered = both(direction, effective_direction(source, media, connection))
    return _line(port, "RTP/AVP", formats, _feedback(media, formats), offered)


def answer_video_as(
    offer: SessionDescription, media: MediaDescription, local: LocalEnd, chosen: Stream, direction: Direction
) -> AnsweredVideo | Unacceptable:
    """Answer a line of the first party's with what the second party has chosen, under the first party's numbers."""
    connection = usable(offer, media, address_type_of(local.address))
    if isinstance(connection, Unacceptable):
        return connection
    offered = _passing(media)
    numbers: dict[int, int] = {}  # the second party's number of a format → the first party's, each of them once
    for codec, theirs in _counterparts(chosen.outgoing, offered):
        if theirs.payload_type not in numbers.values():
            numbers[codec.payload_type] = theirs.payload_type
    answered = _whole([_renumbered(codec, numbers) for codec in chosen.outgoing if codec.payload_type in numbers])
    if not answered:
        return _NO_FORMAT
    feedback = _renumbered_feedback(chosen.feedback, numbers, answered)
    ours = narrowed(both(direction, turned(chosen.direction)), effective_direction(offer, media, connection))
    by_number = {codec.payload_type: codec for codec in offered}
    outgoing = tuple([by_number[codec.payload_type] for codec in answered])
    wishes = tuple(_feedback(media, outgoing))
    stream = Stream(connection.address, media.port, ours, tuple(answered), outgoing, wishes)
    return AnsweredVideo(_line(local.video_port or 0, media.protocol, answered, feedback, ours), stream)


def read_video(
    our_offer: SessionDescription, ours: MediaDescription, description: SessionDescription, theirs: MediaDescription
) -> Stream | None:
    """What the answer to a video line of ours fixes; None where nothing can be shown. A call goes on without a picture."""
    connection = reachable(description, theirs, our_offer.origin.address_type)
    if isinstance(connection, Unacceptable):
        return None
    offered, answered = _passing(ours), _passing(theirs)
    outgoing = _whole([codec for codec, _ in _counterparts(answered, offered)])
    if not outgoing:
        return None
    incoming = [codec for codec, _ in _counterparts(offered, outgoing)]
    used = {codec.payload_type for codec in incoming}
    # They send with our numbers (RFC 3264 §7); some send with their own all the same.
    incoming.extend(codec for codec in outgoing if codec.payload_type not in used)
    direction = narrowed(direction_of(our_offer, ours), effective_direction(description, theirs, connection))
    feedback = tuple(_feedback(theirs, outgoing))
    return Stream(connection.address, theirs.port, direction, tuple(incoming), tuple(outgoing), feedback)


def renewed_video(media: MediaDescription, port: int, direction: Direction) -> MediaDescription:
    """A video line of ours with another port and direction."""
    formats = _passing(media)
    return _line(port, media.protocol, formats, _feedback(media, formats), direction)


def format_map(incoming: Sequence[Codec], outgoing: Sequence[Codec]) -> tuple[tuple[int, int], ...]:
    """(number as it comes in, number as it goes out) for each format that has a counterpart."""
    return tuple([(codec.payload_type, other.payload_type) for codec, other in _counterparts(incoming, outgoing)])


_NO_FORMAT = Unacceptable(INCOMPATIBLE_MEDIA_FORMAT, "No common video format")


def _passing(media: MediaDescription) -> list[Codec]:
    """The formats of a line that can be passed on: explained, and not too many."""
    return _whole(codecs_of(media)[:MAX_PASSED])


def _whole(codecs: Sequence[Codec]) -> list[Codec]:
    """Without retransmissions of what is not there; nothing, where nothing is left to see."""
    numbers = {codec.payload_type for codec in codecs}
    left = [codec for codec in codecs if codec.name.lower() != _RETRANSMISSION or _repeated(codec) in numbers]
    return left if any(codec.name.lower() not in _BESIDE for codec in left) else []


def _counterparts(codecs: Sequence[Codec], others: Sequence[Codec]) -> list[tuple[Codec, Codec]]:
    """Each of `codecs` with the one of `others` that is the same format: where several are, the one of the same number."""
    shapes, shapes_of_others = _shapes(codecs), _shapes(others)
    by_number = {codec.payload_type: codec for codec in others}
    by_shape = {shapes_of_others[codec.payload_type]: codec for codec in reversed(others)}
    found: list[tuple[Codec, Codec]] = []
    for codec in codecs:
        number, shape = codec.payload_type, shapes[codec.payload_type]
        other, twin = by_shape.get(shape), by_number.get(number)
        if twin is not None and (shapes_of_others[number] == shape or (other is None and _may_be(codec, twin))):
            other = twin
        if other is not None:
            found.append((codec, other))
    return found


def _shapes(codecs: Sequence[Codec]) -> dict[int, Hashable]:
    """By payload type number: what makes two formats the same one."""
    shapes: dict[int, Hashable] = {
        codec.payload_type: _shape(codec) for codec in codecs if codec.name.lower() != _RETRANSMISSION
    }
    repeated = {
        codec.payload_type: (codec.encoding, shapes.get(_repeated(codec)))
        for codec in codecs
        if codec.name.lower() == _RETRANSMISSION
    }
    return {**shapes, **repeated}


def _shape(codec: Codec) -> Hashable:
    name = codec.name.lower()
    if name in _NAMED_WITHIN:
        return codec.encoding, codec.payload_type
    given = _symmetric(codec)
    return codec.encoding, tuple([given.get(parameter, absent) for parameter, absent in _SYMMETRIC.get(name, ())])


def _may_be(codec: Codec, twin: Codec) -> bool:
    """Whether two formats of one number are the same, where one leaves parameters out: some answers do, against their RFC."""
    one, other = _symmetric(codec), _symmetric(twin)
    named = one.keys() & other.keys()
    return (
        codec.encoding == twin.encoding
        and codec.name.lower() in _SYMMETRIC
        and all(one[name] == other[name] for name in named)
    )


def _symmetric(codec: Codec) -> dict[str, str]:
    """The parameters both ends must have alike, as far as this format names them."""
    given = _parameters(codec.fmtp)
    if _PROFILE in given:
        given[_PROFILE] = given[_PROFILE][:2].lower()  # what follows is constraints and level
    return {name: given[name] for name, _ in _SYMMETRIC.get(codec.name.lower(), ()) if name in given}


def _parameters(fmtp: str) -> dict[str, str]:
    """ "a=1;b=2" as a mapping, names in lower case."""
    pairs = [parameter.partition("=") for parameter in fmtp.split(";")]
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _repeated(codec: Codec) -> int:
    """The number of the format that this retransmission repeats (`apt`); -1 where it does not say."""
    number = _parameters(codec.fmtp).get("apt", "")
    return int(number) if is_number(number, 127) else -1


def _renumbered(codec: Codec, numbers: Mapping[int, int]) -> Codec:
    """The format under its new number, and under that of the format it repeats."""
    fmtp = codec.fmtp
    if codec.name.lower() == _RETRANSMISSION:
        other = numbers.get(_repeated(codec))
        fmtp = "" if other is None else f"apt={other}"
    return codec._replace(payload_type=numbers[codec.payload_type], fmtp=fmtp)


def _feedback(media: MediaDescription, codecs: Iterable[Codec]) -> list[str]:
    """The values of the line's a=rtcp-fb that are for these formats, or for all."""
    named = {str(codec.payload_type) for codec in codecs} | {"*"}
    found: list[str] = []
    for value in media.values("rtcp-fb"):
        if len(found) == MAX_FEEDBACKS:
            break
        if len(value) <= MAX_FEEDBACK and value.partition(" ")[0] in named and is_plain(value):
            found.append(value)
    return found


def _renumbered_feedback(feedback: Iterable[str], numbers: Mapping[int, int], answered: Iterable[Codec]) -> list[str]:
    """The second party's feedback as it is called on the first party's line."""
    wanted = {codec.payload_type for codec in answered}
    new_names = {str(theirs): str(number) for theirs, number in numbers.items() if number in wanted} | {"*": "*"}
    found: list[str] = []
    for value in feedback:
        name, space, kind = value.partition(" ")
        if name in new_names:
            found.append(new_names[name] + space + kind)
    return found


def _line(
    port: int, protocol: str, codecs: Sequence[Codec], feedback: Iterable[str], direction: Direction
) -> MediaDescription:
    attributes = [f"rtpmap:{codec.payload_type} {codec}" for codec in codecs]
    attributes.extend([f"fmtp:{codec.payload_type} {codec.fmtp}" for codec in codecs if codec.fmtp])
    attributes.extend([f"rtcp-fb:{value}" for value in feedback])
    attributes.append(direction)
    formats = tuple([str(codec.payload_type) for codec in codecs])
    return MediaDescription("video", port, protocol, formats, None, tuple(attributes))
