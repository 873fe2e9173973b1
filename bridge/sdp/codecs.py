"""Codecs by the numbers that name them in one session: RFC 3551 §6 (static payload types), RFC 8866 §6.6 and §6.15 (rtpmap,
fmtp), RFC 4733 (telephone-event), RFC 7587 (opus).

A codec is known by its encoding: name, clock rate and channels, whatever number a session gives it. Refuses to know what
is inside a packet, and what an offer is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from bridge.sdp.description import MediaDescription, is_number

TELEPHONE_EVENT = "telephone-event"
EVENTS = "0-16"  # the sixteen DTMF keys and hook flash
IMPLIED_EVENTS = "0-15"  # what telephone-event without fmtp means (RFC 4733 §2.4.1)
MAX_RTPMAP = 80  # characters: no registered name comes near, and applications are shown it
MAX_FMTP = 512  # characters: H.264 with its parameter sets takes 100 to 250

Encoding: TypeAlias = tuple[str, int, int]  # name in lower case, clock rate, channels


class Codec(NamedTuple):
    """One RTP payload format, by the number that names it in this session."""

    name: str  # "PCMU", as registered
    clock_rate: int  # Hz
    channels: int
    payload_type: int
    fmtp: str = ""  # format parameters as they came: "minptime=10;useinbandfec=1"; "": none

    def __str__(self) -> str:
        return (
            f"{self.name}/{self.clock_rate}" if self.channels == 1 else f"{self.name}/{self.clock_rate}/{self.channels}"
        )

    @property
    def encoding(self) -> Encoding:
        """What makes two codecs the same one. Names are compared without case (RFC 8866 §6.6)."""
        return self.name.lower(), self.clock_rate, self.channels

    @property
    def is_event(self) -> bool:
        """True for telephone-event: it goes with a codec and is none."""
        return self.name.lower() == TELEPHONE_EVENT


PCMU = Codec("PCMU", 8000, 1, 0)
PCMA = Codec("PCMA", 8000, 1, 8)
G722 = Codec(
    "G722", 8000, 1, 9
)  # samples at 16 kHz; the clock rate is an old mistake, kept on purpose (RFC 3551 §4.5.2)
OPUS = Codec("opus", 48000, 2, 111)  # always written as 48000/2 (RFC 7587 §7), whatever is inside
DTMF = Codec(TELEPHONE_EVENT, 8000, 1, 101)
DTMF_48000 = Codec(TELEPHONE_EVENT, 48000, 1, 110)  # events keep the clock of the codec beside them (RFC 4733 §2.1)

# What the service itself can speak and hear.
DEFAULT: tuple[Codec, ...] = (PCMU, PCMA, DTMF)
# What may pass from one party to the other untouched. The events at 8000 come first: some phones take whatever is first.
RELAYED: tuple[Codec, ...] = (OPUS, G722, PCMU, PCMA, DTMF, DTMF_48000)

# RFC 3551 §6: what a number means when no rtpmap says so.
_STATIC_AUDIO: Mapping[str, Codec] = {
    str(codec.payload_type): codec
    for codec in (
        PCMU,
        Codec("GSM", 8000, 1, 3),
        Codec("G723", 8000, 1, 4),
        Codec("DVI4", 8000, 1, 5),
        Codec("DVI4", 16000, 1, 6),
        Codec("LPC", 8000, 1, 7),
        PCMA,
        G722,
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
_STATIC_VIDEO: Mapping[str, Codec] = {
    str(number): Codec(name, 90000, 1, number)
    for name, number in (("CelB", 25), ("JPEG", 26), ("nv", 28), ("H261", 31), ("MPV", 32), ("MP2T", 33), ("H263", 34))
}
_NONE: Mapping[str, Codec] = {}


def codecs_of(media: MediaDescription) -> list[Codec]:
    """The codecs a media line names, in its order; numbers nobody explains are left out, and numbers named again too."""
    maps: dict[str, Codec] = {}
    parameters: dict[str, str] = {}
    for text in media.attributes:
        if text.startswith("rtpmap:"):
            if len(text) <= MAX_RTPMAP and text[7 : text.find(" ")] not in maps:  # the first word on a number counts
                codec = _read_rtpmap(text)
                if codec is not None:
                    maps.setdefault(str(codec.payload_type), codec)
        elif text.startswith("fmtp:") and len(text) <= MAX_FMTP:
            number, _, value = text[5:].partition(" ")
            parameters.setdefault(number, value)
    static = _STATIC_AUDIO if media.kind == "audio" else _STATIC_VIDEO if media.kind == "video" else _NONE
    found: list[Codec] = []
    for number in dict.fromkeys(media.formats):
        codec = maps.get(number) or static.get(number)
        if codec is not None:
            fmtp = parameters.get(number)
            found.append(codec if fmtp is None or not is_plain(fmtp) else Codec(*codec[:4], fmtp.strip(" ")))
    return found


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


def is_plain(text: str) -> bool:
    """Whether it may stand in a description of ours: what one party writes is shown to others."""
    return text.isascii() and text.isprintable()


def first_in_common(theirs: Iterable[Codec], ours: Iterable[Codec]) -> tuple[Codec | None, int | None]:
    """The first of their codecs that we know too, by our name for it, and their number for telephone-event at its clock
    rate."""
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


def in_common(theirs: Iterable[Codec], ours: Iterable[Codec]) -> list[Codec]:
    """All of their codecs that we know too, under their numbers and by our names, the telephone-events last."""
    names = {codec.encoding: codec.name for codec in ours}
    known = [
        codec if codec.name == name else codec._replace(name=name)
        for codec in theirs
        if (name := names.get(codec.encoding)) is not None
    ]
    return sorted(known, key=lambda codec: codec.is_event)


def bare(codec: Codec) -> Codec:
    """The same codec without format parameters."""
    return codec._replace(fmtp="") if codec.fmtp else codec


@lru_cache(maxsize=1024)  # asked with every snapshot of every call; most calls have the same few numbers
def meanings(payload_types: tuple[int, ...], codec: Codec, telephone_event: int | None) -> tuple[Codec, ...]:
    """What these numbers mean, where only the codec in use and its telephone-event are known: a static number means what
    RFC 3551 says, any other is one more number for the events (they come under ours, and by mistake under theirs)."""
    found: list[Codec] = []
    for number in payload_types:
        if number == codec.payload_type:
            found.append(bare(codec))
        else:
            static = None if number == telephone_event else _STATIC_AUDIO.get(str(number))
            found.append(static or Codec(TELEPHONE_EVENT, codec.clock_rate, 1, number))
    return tuple(found)


@lru_cache(maxsize=1024)
def with_event(codec: Codec, telephone_event: int | None) -> tuple[Codec, ...]:
    """A codec and the telephone-event of this number beside it."""
    if telephone_event is None:
        return (codec,)
    return codec, Codec(TELEPHONE_EVENT, codec.clock_rate, 1, telephone_event)
