"""What one media line says about its stream, read and written: the address (RFC 8866 §5.7), the direction (RFC 3264 §5.1 and
§6.1) with the old hold by `c=0.0.0.0` (§8.4), and the formats of a line of ours.

What makes a line unusable is a value with the `Warning` code of RFC 3261 §20.43, for a 488. Refuses to know which of
several lines is meant, and who offers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal

from bridge.sdp.codecs import EVENTS, TELEPHONE_EVENT, Codec
from bridge.sdp.description import Connection, MediaDescription, SessionDescription

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

PROTOCOLS = frozenset({"RTP/AVP", "RTP/AVPF"})  # AVPF asks nothing of us where no feedback is agreed (RFC 4585 §3.1)

# RFC 3261 §20.43
INCOMPATIBLE_NETWORK_PROTOCOL = 300
INCOMPATIBLE_ADDRESS_FORMAT = 301
INCOMPATIBLE_TRANSPORT_PROTOCOL = 302
MEDIA_TYPE_NOT_AVAILABLE = 304
INCOMPATIBLE_MEDIA_FORMAT = 305
MULTICAST_NOT_AVAILABLE = 330

DIRECTIONS: Mapping[str, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "sendonly",
    "recvonly": "recvonly",
    "inactive": "inactive",
}

_OCTETS = frozenset(str(octet) for octet in range(256))  # no leading zeros: some readers take those for octal


@dataclass(frozen=True, slots=True)
class Unacceptable:
    """No agreement is possible: 488 with this `Warning` (RFC 3261 §20.43)."""

    warning_code: int
    warning_text: str


def reachable(
    description: SessionDescription, media: MediaDescription, address_type: str | None
) -> Connection | Unacceptable:
    """Where the far end wants its packets, if we can send there. `address_type`: "IP4", "IP6", or None for either."""
    connection = media.connection or description.connection
    if connection is None or connection.net_type != "IN":
        return Unacceptable(INCOMPATIBLE_NETWORK_PROTOCOL, f"No c=IN line for the {_clean(media.kind)} stream")
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
    if address_type not in (None, connection.address_type) and not _is_nowhere(address):
        return Unacceptable(INCOMPATIBLE_ADDRESS_FORMAT, f"Only {address_type} addresses can be reached from here")
    return Connection("IN", connection.address_type, address)


def usable(
    description: SessionDescription, media: MediaDescription, address_type: str | None
) -> Connection | Unacceptable:
    """Where a line's packets go, if its protocol is one of ours and its address can be reached."""
    if media.protocol not in PROTOCOLS:
        return Unacceptable(
            INCOMPATIBLE_TRANSPORT_PROTOCOL, f"Only RTP/AVP is understood, not {_clean(media.protocol)}"
        )
    return reachable(description, media, address_type)


def audio_line(
    port: int, protocol: str, codecs: Sequence[Codec], direction: Direction, extra: Sequence[str] = ()
) -> MediaDescription:
    """An audio line of ours; `extra` are attributes that stand before the direction."""
    attributes = [f"rtpmap:{codec.payload_type} {codec}" for codec in codecs]
    for codec in codecs:
        if codec.fmtp:
            attributes.append(f"fmtp:{codec.payload_type} {codec.fmtp}")
        elif codec.name == TELEPHONE_EVENT:
            attributes.append(f"fmtp:{codec.payload_type} {EVENTS}")
    attributes.extend(extra)
    attributes.append(direction)
    formats = tuple([str(codec.payload_type) for codec in codecs])
    return MediaDescription("audio", port, protocol, formats, None, tuple(attributes))


def refused_line(media: MediaDescription) -> MediaDescription:
    """RFC 3264 §6: kind, protocol and formats as offered, port 0."""
    return MediaDescription(media.kind, 0, media.protocol, media.formats)


def direction_of(description: SessionDescription, media: MediaDescription) -> Direction:
    """One end's own direction; the stream's word goes before the session's, and none means sendrecv (§5.1)."""
    for attributes in (media.attributes, description.attributes):
        for text in attributes:
            if text in DIRECTIONS:
                return DIRECTIONS[text]
    return "sendrecv"


def effective_direction(description: SessionDescription, media: MediaDescription, connection: Connection) -> Direction:
    """The far end's direction, with the old hold (§8.4: an address of zeros hears nothing) read as what it means."""
    direction = direction_of(description, media)
    if not _is_nowhere(connection.address):
        return direction
    return "sendonly" if "send" in direction else "inactive"


def narrowed(wanted: Direction, theirs: Direction) -> Direction:
    """What is left of what we want, facing an end that does `theirs`."""
    return combined(send=sends(wanted) and receives(theirs), receive=receives(wanted) and sends(theirs))


def both(one: Direction, other: Direction) -> Direction:
    """What both of two wishes for the same end allow."""
    return combined(send=sends(one) and sends(other), receive=receives(one) and receives(other))


def turned(direction: Direction) -> Direction:
    """The same stream seen from the other end."""
    return combined(send=receives(direction), receive=sends(direction))


def sends(direction: Direction) -> bool:
    return direction in ("sendrecv", "sendonly")


def receives(direction: Direction) -> bool:
    return direction in ("sendrecv", "recvonly")


def combined(*, send: bool, receive: bool) -> Direction:
    """The word for both halves of a stream."""
    if send:
        return "sendrecv" if receive else "sendonly"
    return "recvonly" if receive else "inactive"


def _is_nowhere(address: str) -> bool:
    return address in ("0.0.0.0", "::")  # noqa: S104 -- compared, not bound


def address_type_of(address: str) -> str:
    """The word of `c=` and `o=` for an address of ours."""
    return "IP6" if ":" in address else "IP4"


def _clean(text: str) -> str:
    """A word of the far end's, fit to stand in a quoted warning text."""
    return "".join(character for character in text[:32] if character.isascii() and character.isprintable()).translate(
        {34: None, 92: None}
    )
