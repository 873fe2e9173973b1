"""What a bargain fixes, seen from our end, and our end itself: plain values that live in a call's snapshot.

`Negotiated` is one leg's audio stream and, where both have it, its video `Stream`; each says which packets may come in and
under which numbers they go out. Refuses to know how it was struck: that is `offer_answer`'s and `relaying`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.sdp.codecs import Codec, meanings, with_event
from bridge.sdp.description import SessionDescription
from bridge.sdp.media_lines import DIRECTIONS, Direction


@dataclass(frozen=True, slots=True)
class LocalEnd:
    """Our side of a session. `version` rises by one with every changed description (§5)."""

    address: str  # what c= and o= say
    port: int  # RTP; RTCP is the next
    session_id: int
    version: int
    username: str = "bridge"
    video_port: int | None = None  # RTP of the picture; None: this end has none


@dataclass(frozen=True, slots=True)
class Stream:
    """A second stream, beside the audio, that is only passed on: video."""

    remote_host: str  # IP address; "0.0.0.0" or "::" is the old hold: send nothing
    remote_port: int
    direction: Direction  # what WE may do
    incoming: tuple[Codec, ...]  # what may come in, and what its numbers mean
    outgoing: tuple[Codec, ...]  # what the far end takes, under its numbers
    feedback: tuple[str, ...] = ()  # values of its a=rtcp-fb: "96 nack pli", "* ccm fir"

    @property
    def payload_types(self) -> tuple[int, ...]:
        """The numbers that may come in."""
        return tuple(dict.fromkeys([codec.payload_type for codec in self.incoming]))

    def to_data(self) -> dict[str, object]:
        """Plain data for a snapshot."""
        return {
            "remote": [self.remote_host, self.remote_port],
            "direction": self.direction,
            "incoming": [list(codec) for codec in self.incoming],
            "outgoing": [list(codec) for codec in self.outgoing],
            "feedback": list(self.feedback),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> Stream:
        """The reverse of `to_data`."""
        match data:
            case {
                "remote": [str(host), int(port)],
                "direction": str(direction),
                "incoming": [*incoming],
                "outgoing": [*outgoing],
                "feedback": [*feedback],
            }:
                texts = tuple([text for text in feedback if isinstance(text, str)])
                return cls(host, port, DIRECTIONS[direction], _codecs(incoming), _codecs(outgoing), texts)
        raise ValueError(f"not a stored stream: {data!r}")


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both ends have agreed on for the audio stream, and for video beside it, seen from our end.

    `incoming` and `outgoing` that are left out are what follows from the fields before them.
    """

    codec: Codec  # what we send; its payload type is the far end's number for it
    telephone_event: int | None  # the far end's payload type for DTMF events
    remote_host: str  # IP address; "0.0.0.0" or "::" is the old hold: send nothing
    remote_port: int
    direction: Direction  # what WE may do
    held: bool  # the far end does not want to hear us
    payload_types: tuple[int, ...]  # what may come in
    incoming: tuple[Codec, ...] = ()  # what each of `payload_types` means
    outgoing: tuple[Codec, ...] = ()  # everything the far end takes, under its numbers; `codec` is the first
    allowed: Direction = "sendrecv"  # what we could do if we asked for everything: `direction` without our own wishes
    ptime: int | None = None  # milliseconds of audio the far end wants in a packet
    maxptime: int | None = None  # and at most
    video: Stream | None = None

    def __post_init__(self) -> None:
        if not self.incoming:
            object.__setattr__(self, "incoming", meanings(self.payload_types, self.codec, self.telephone_event))
        if not self.outgoing:
            object.__setattr__(self, "outgoing", with_event(self.codec, self.telephone_event))

    def to_data(self) -> dict[str, object]:
        """Plain data for a snapshot."""
        return {
            "codec": list(self.codec[:4]),
            "telephone_event": self.telephone_event,
            "remote": [self.remote_host, self.remote_port],
            "direction": self.direction,
            "held": self.held,
            "payload_types": list(self.payload_types),
            **self.extras(),
        }

    def extras(self) -> dict[str, object]:
        """The part of `to_data` that a plain stream does not need: PCMU answered by the service has none."""
        extras: dict[str, object] = {}
        if self.codec.fmtp:
            extras["fmtp"] = self.codec.fmtp
        if self.incoming != meanings(self.payload_types, self.codec, self.telephone_event):
            extras["incoming"] = [list(codec) for codec in self.incoming]
        if self.outgoing != with_event(self.codec, self.telephone_event):
            extras["outgoing"] = [list(codec) for codec in self.outgoing]
        if self.allowed != self.direction:
            extras["allowed"] = self.allowed
        if self.ptime is not None:
            extras["ptime"] = self.ptime
        if self.maxptime is not None:
            extras["maxptime"] = self.maxptime
        if self.video is not None:
            extras["video"] = self.video.to_data()
        return extras

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> Negotiated:
        """The reverse of `to_data`; what an older release did not write follows from what it did."""
        match data:
            case {
                "codec": [str(name), int(rate), int(channels), int(payload_type)],
                "telephone_event": int() | None as event,
                "remote": [str(host), int(port)],
                "direction": str(direction),
                "held": bool(held),
                "payload_types": [*payload_types],
            }:
                fmtp, allowed, video = data.get("fmtp", ""), data.get("allowed", direction), data.get("video")
                return cls(
                    codec=Codec(name, rate, channels, payload_type, str(fmtp)),
                    telephone_event=event,
                    remote_host=host,
                    remote_port=port,
                    direction=DIRECTIONS[direction],
                    held=held,
                    payload_types=tuple([number for number in payload_types if isinstance(number, int)]),
                    incoming=_codecs(data.get("incoming")),
                    outgoing=_codecs(data.get("outgoing")),
                    allowed=DIRECTIONS[str(allowed)],
                    ptime=_number(data.get("ptime")),
                    maxptime=_number(data.get("maxptime")),
                    video=Stream.from_data(video) if isinstance(video, Mapping) else None,
                )
        raise ValueError(f"not a stored negotiation: {data!r}")


@dataclass(frozen=True, slots=True)
class Answered:
    """Our answer to an offer, and what it fixes."""

    description: SessionDescription
    negotiated: Negotiated


def _codecs(data: object) -> tuple[Codec, ...]:
    found: list[Codec] = []
    for each in data if isinstance(data, Sequence) else ():
        match each:
            case [str(name), int(rate), int(channels), int(payload_type), str(fmtp)]:
                found.append(Codec(name, rate, channels, payload_type, fmtp))
            case _:
                raise ValueError(f"not a stored codec: {each!r}")
    return tuple(found)


def _number(data: object) -> int | None:
    return data if isinstance(data, int) else None
