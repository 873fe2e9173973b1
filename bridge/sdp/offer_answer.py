"""The offer/answer bargain for one audio stream: RFC 3264, with RFC 3551's static payload types, telephone-event
(RFC 4733), and the old hold by `c=0.0.0.0` (RFC 3264 §8.4).

`answer` mirrors every media line and takes the first audio line that fits; `offer` and `read_answer` are the other side
of the same bargain. What cannot be agreed on is a value with the `Warning` code of RFC 3261 §20.43, for a 488. Refuses to
know what carries the descriptions, and when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Literal, NamedTuple

from bridge.sdp.description import Connection, MediaDescription, Origin, SessionDescription, is_number

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

PROTOCOLS = frozenset({"RTP/AVP", "RTP/AVPF"})  # AVPF asks nothing of us where no feedback is agreed (RFC 4585 §3.1)
TELEPHONE_EVENT = "telephone-event"
MAX_RTPMAP = 80  # characters: no registered name comes near, and applications are shown it
EVENTS = "0-16"  # the sixteen DTMF keys and hook flash

# RFC 3261 §20.43
INCOMPATIBLE_NETWORK_PROTOCOL = 300
INCOMPATIBLE_ADDRESS_FORMAT = 301
INCOMPATIBLE_TRANSPORT_PROTOCOL = 302
MEDIA_TYPE_NOT_AVAILABLE = 304
INCOMPATIBLE_MEDIA_FORMAT = 305
MULTICAST_NOT_AVAILABLE = 330


class Codec(NamedTuple):
    """One RTP payload format, by the number that names it in this session."""

    name: str  # "PCMU", as registered
    clock_rate: int  # Hz
    channels: int
    payload_type: int

    def __str__(self) -> str:
        return (
            f"{self.name}/{self.clock_rate}" if self.channels == 1 else f"{self.name}/{self.clock_rate}/{self.channels}"
        )


PCMU = Codec("PCMU", 8000, 1, 0)
PCMA = Codec("PCMA", 8000, 1, 8)
DTMF = Codec(TELEPHONE_EVENT, 8000, 1, 101)
DEFAULT: tuple[Codec, ...] = (PCMU, PCMA, DTMF)

# RFC 3551 §6, the audio part: what a number means when no rtpmap says so.
_STATIC: Mapping[str, Codec] = {
    str(codec.payload_type): codec
    for codec in (
        PCMU,
        Codec("GSM", 8000, 1, 3),
        Codec("G723", 8000, 1, 4),
        Codec("DVI4", 8000, 1, 5),
        Codec("DVI4", 16000, 1, 6),
        Codec("LPC", 8000, 1, 7),
        PCMA,
        Codec("G722", 8000, 1, 9),
        Codec("L16", 44100, 2, 10),
        Codec("L16", 44100, 1, 11),
        Codec("QCELP", 8000, 1, 12),
        Codec("CN", 8000, 1, 13),
        Codec("MPA", 90000, 1, 14),
        Codec("G728", 8000, 1, 15),
        Codec("DVI4", 11025, 1, 16),
        Codec("DVI4", 22050, 1, 17),
        Codec("G729", 8000, 1, 18),
    )
}

_DIRECTIONS: Mapping[str, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "sendonly",
    "recvonly": "recvonly",
    "inactive": "inactive",
}

_OCTETS = frozenset(str(octet) for octet in range(256))  # no leading zeros: some readers take those for octal


@dataclass(frozen=True, slots=True)
class LocalEnd:
    """Our side of a session. `version` rises by one with every changed description (§5)."""

    address: str  # what c= and o= say
    port: int  # RTP; RTCP is the next
    session_id: int
    version: int
    username: str = "bridge"


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both ends have agreed on for the audio stream, seen from our end."""

    codec: Codec  # what we send; its payload type is the far end's number for it
    telephone_event: int | None  # the far end's payload type for DTMF events
    remote_host: str  # IP address; "0.0.0.0" or "::" is the old hold: send nothing
    remote_port: int
    direction: Direction  # what WE may do
    held: bool  # the far end does not want to hear us
    payload_types: tuple[int, ...]  # what may come in

    def to_data(self) -> dict[str, object]:
        """Plain data for a snapshot."""
        return {
            "codec": list(self.codec),
            "telephone_event": self.telephone_event,
            "remote": [self.remote_host, self.remote_port],
            "direction": self.direction,
            "held": self.held,
            "payload_types": list(self.payload_types),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> Negotiated:
        """The reverse of `to_data`."""
        match data:
            case {
                "codec": [str(name), int(rate), int(channels), int(payload_type)],
                "telephone_event": int() | None as event,
                "remote": [str(host), int(port)],
                "direction": str(direction),
                "held": bool(held),
                "payload_types": [*payload_types],
            }:
                codec = Codec(name, rate, channels, payload_type)
                numbers = tuple([number for number in payload_types if isinstance(number, int)])
                return cls(codec, event, host, port, _DIRECTIONS[direction], held, numbers)
        raise ValueError(f"not a stored negotiation: {data!r}")


@dataclass(frozen=True, slots=True)
class Answered:
    """Our answer to an offer, and what it fixes."""

    description: SessionDescription
    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class Unacceptable:
    """No agreement is possible: 488 with this `Warning` (RFC 3261 §20.43)."""

    warning_code: int
    warning_text: str


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
            lines = [_refused(other) for other in description.media]
            lines[place] = taken.description
            # §6: the t= lines of an answer equal those of the offer.
            times = tuple([line for line in description.other if line[0] == "t"]) or (("t", "0 0"),)
            connection = Connection("IN", _address_type(local.address), local.address)
            return Answered(
                SessionDescription(_origin(local), "-", connection, (), tuple(lines), times),
                taken.negotiated,
            )
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
    connection = Connection("IN", _address_type(local.address), local.address)
    return SessionDescription(_origin(local), "-", connection, (), (_audio(local.port, "RTP/AVP", codecs, direction),))


def read_answer(our_offer: SessionDescription, description: SessionDescription) -> Negotiated | Unacceptable:
    """What the far end's answer to our offer fixes (§7)."""
    if len(description.media) != len(our_offer.media):
        return Unacceptable(MEDIA_TYPE_NOT_AVAILABLE, "Answer does not mirror the media lines of the offer")
    for ours, theirs in zip(our_offer.media, description.media, strict=True):
        if theirs.kind != ours.kind or theirs.port == 0:
            continue
        connection = _reachable(description, theirs, our_offer.origin.address_type)
        if isinstance(connection, Unacceptable):
            return connection
        offered = _formats(ours)
        audio, event = _common(_formats(theirs), offered)
        if audio is None:
            return Unacceptable(INCOMPATIBLE_MEDIA_FORMAT, "No common codec in the answer")
        # They send with our numbers, we with theirs (§7); some send with their own all the same.
        common = {(codec.name.lower(), codec.clock_rate, codec.channels) for codec in _formats(theirs)}
        expected = [codec.payload_type for codec in offered if (codec.name.lower(), *codec[1:3]) in common]
        expected.extend(number for number in (audio.payload_type, event) if number is not None)
        effective = _effective_direction(description, theirs, connection)
        return Negotiated(
            codec=audio,
            telephone_event=event,
            remote_host=connection.address,
            remote_port=theirs.port,
            direction=_narrow(_direction(our_offer, ours), effective),
            held="recv" not in effective,
            payload_types=tuple(dict.fromkeys(expected)),
        )
    return Unacceptable(MEDIA_TYPE_NOT_AVAILABLE, "Every media line of the offer was refused")


def offered_codecs(description: SessionDescription) -> tuple[str, ...]:
    """The codecs of the first live audio line in the offer's order: "PCMU/8000"."""
    for media in description.media:
        if media.kind == "audio" and media.port != 0:
            return tuple([str(codec) for codec in _formats(media)])
    return ()


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
    if media.protocol not in PROTOCOLS:
        return Unacceptable(
            INCOMPATIBLE_TRANSPORT_PROTOCOL, f"Only RTP/AVP is understood, not {_clean(media.protocol)}"
        )
    connection = _reachable(description, media, _address_type(local.address))
    if isinstance(connection, Unacceptable):
        return connection
    audio, event = _common(_formats(media), codecs)
    if audio is None:
        known = ", ".join(str(codec) for codec in codecs if codec.name != TELEPHONE_EVENT)
        return Unacceptable(INCOMPATIBLE_MEDIA_FORMAT, f"No common codec; understood: {known}")
    effective = _effective_direction(description, media, connection)
    ours = _narrow(wanted, effective)
    agreed = [audio] if event is None else [audio, Codec(TELEPHONE_EVENT, audio.clock_rate, 1, event)]
    negotiated = Negotiated(
        codec=audio,
        telephone_event=event,
        remote_host=connection.address,
        remote_port=media.port,
        direction=ours,
        held="recv" not in effective,
        payload_types=tuple([codec.payload_type for codec in agreed]),
    )
    return _Taken(_audio(local.port, media.protocol, agreed, ours), negotiated)


def _formats(media: MediaDescription) -> list[Codec]:
    """The codecs a media line names, in its order; numbers nobody explains are left out."""
    maps: dict[str, Codec] = {}
    for text in media.attributes:
        if text.startswith("rtpmap:") and len(text) <= MAX_RTPMAP:
            codec = _read_rtpmap(text)
            if codec is not None:
                maps.setdefault(str(codec.payload_type), codec)
    return [codec for number in media.formats if (codec := maps.get(number) or _STATIC.get(number)) is not None]


@lru_cache(maxsize=1024)  # phones write few different ones, and each costs more to read than all the rest of an answer
def _read_rtpmap(text: str) -> Codec | None:
    """One "rtpmap:101 telephone-event/8000" (RFC 8866 §6.6); None where it is not of this shape."""
    number, _, encoding = text[len("rtpmap:") :].partition(" ")
    name, _, rate = encoding.strip().partition("/")
    rate, _, channels = rate.partition("/")
    channels = channels or "1"
    if not name or not name.isascii() or not name.isprintable():
        return None
    if not is_number(number, 127) or not is_number(rate, 1_000_000) or not is_number(channels, 255):
        return None
    return Codec(name, int(rate), int(channels), int(number))


def _common(theirs: Sequence[Codec], ours: Sequence[Codec]) -> tuple[Codec | None, int | None]:
    """The first of their codecs that we know too, and their number for telephone-event at its clock rate."""
    names = {(codec.name.lower(), codec.clock_rate, codec.channels): codec.name for codec in ours}
    audio: Codec | None = None
    events: list[Codec] = []
    for codec in theirs:
        name = names.get((codec.name.lower(), codec.clock_rate, codec.channels))
        if name == TELEPHONE_EVENT:
            events.append(codec)
        elif name is not None and audio is None:
            audio = codec if codec.name == name else codec._replace(name=name)
    for codec in events:
        if audio is not None and codec.clock_rate == audio.clock_rate:
            return audio, codec.payload_type
    return audio, None


def _reachable(
    description: SessionDescription, media: MediaDescription, address_type: str
) -> Connection | Unacceptable:
    """Where the far end wants its packets, if we can send there."""
    connection = media.connection or description.connection
    if connection is None or connection.net_type != "IN":
        return Unacceptable(INCOMPATIBLE_NETWORK_PROTOCOL, "No c=IN line for the audio stream")
    address, _, _ = connection.address.partition("/")
    if connection.address_type == "IP4":
        octets = address.split(".")
        if len(octets) != 4 or not _OCTETS.issuperset(octets) or (octets[0] == "0" and address != "0.0.0.0"):  # noqa: S104 -- compared, not bound
            return Unacceptable(INCOMPATIBLE_ADDRESS_FORMAT, "c= holds no usable IPv4 address")
        multicast = 224 <= int(octets[0]) <= 239
    elif connection.address_type == "IP6":
        try:
            parsed = IPv6Address(address)
        except ValueError:
            return Unacceptable(INCOMPATIBLE_ADDRESS_FORMAT, "c= holds no IPv6 address")
        if parsed.scope_id is not None:  # names an interface of theirs
            return Unacceptable(INCOMPATIBLE_ADDRESS_FORMAT, "c= holds no usable IPv6 address")
        multicast = parsed.is_multicast
        address = str(parsed)  # as sockets will write it
    else:
        return Unacceptable(INCOMPATIBLE_ADDRESS_FORMAT, "c= is neither IP4 nor IP6")
    if multicast:
        return Unacceptable(MULTICAST_NOT_AVAILABLE, "Multicast not available")
    if connection.address_type != address_type and not _is_nowhere(address):
        return Unacceptable(INCOMPATIBLE_ADDRESS_FORMAT, f"Only {address_type} addresses can be reached from here")
    return Connection("IN", connection.address_type, address)


def _audio(port: int, protocol: str, codecs: Sequence[Codec], direction: Direction) -> MediaDescription:
    attributes = [f"rtpmap:{codec.payload_type} {codec}" for codec in codecs]
    attributes.extend(f"fmtp:{codec.payload_type} {EVENTS}" for codec in codecs if codec.name == TELEPHONE_EVENT)
    attributes.append(direction)
    formats = tuple(str(codec.payload_type) for codec in codecs)
    return MediaDescription("audio", port, protocol, formats, None, tuple(attributes))


def _refused(media: MediaDescription) -> MediaDescription:
    """§6: kind, protocol and formats as offered, port 0."""
    return MediaDescription(media.kind, 0, media.protocol, media.formats)


def _direction(description: SessionDescription, media: MediaDescription) -> Direction:
    """One end's own direction; the stream's word goes before the session's, and none means sendrecv (§5.1)."""
    for attributes in (media.attributes, description.attributes):
        for text in attributes:
            if text in _DIRECTIONS:
                return _DIRECTIONS[text]
    return "sendrecv"


def _effective_direction(description: SessionDescription, media: MediaDescription, connection: Connection) -> Direction:
    """The far end's direction, with the old hold (§8.4: an address of zeros hears nothing) read as what it means."""
    direction = _direction(description, media)
    if not _is_nowhere(connection.address):
        return direction
    return "sendonly" if "send" in direction else "inactive"


def _narrow(wanted: Direction, theirs: Direction) -> Direction:
    """What is left of what we want, facing an end that does `theirs`."""
    send = "send" in wanted and "recv" in theirs
    receive = "recv" in wanted and "send" in theirs
    if send:
        return "sendrecv" if receive else "sendonly"
    return "recvonly" if receive else "inactive"


def _is_nowhere(address: str) -> bool:
    return address in ("0.0.0.0", "::")  # noqa: S104 -- compared, not bound


def _address_type(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def _origin(local: LocalEnd) -> Origin:
    return Origin(
        local.username, str(local.session_id), str(local.version), "IN", _address_type(local.address), local.address
    )


def _clean(text: str) -> str:
    """A word of the far end's, fit to stand in a quoted warning text."""
    return "".join(character for character in text[:32] if character.isascii() and character.isprintable()).translate(
        {34: None, 92: None}
    )
