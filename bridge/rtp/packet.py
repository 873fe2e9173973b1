"""RTP's fixed header: RFC 3550 §5.1, checked and read in place, and one packet of silence (RFC 6263 §4.5).

Looks at the header only: payloads pass by unread, and nothing is copied. What a payload means stands elsewhere.
"""

from __future__ import annotations

from struct import Struct

_HEADER = Struct("!BBHII")
_EXTENSION = Struct("!HH")
HEADER_BYTES = 12
PACKET_S = 0.020  # what one packet of silence lasts

# One code word of no sound at all (ITU-T G.711), by static payload type (RFC 3551 §6).
_SILENCE: dict[int, bytes] = {0: b"\xff" * 160, 8: b"\xd5" * 160}


def read_header(data: bytes | bytearray | memoryview, length: int) -> tuple[int, int, int, int] | None:
    """(payload type, sequence number, timestamp, SSRC) of the packet in the first `length` bytes; None: it is no RTP.

    The tests are those of RFC 3550 appendix A.1: the version, and lengths that fit within the packet.
    """
    if length < HEADER_BYTES:
        return None
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first == 0x80:  # nearly every packet: no padding, extension or contributing sources
        return second & 0x7F, sequence, timestamp, ssrc
    if first >> 6 != 2:
        return None
    end = HEADER_BYTES + 4 * (first & 0x0F)
    if first & 0x10:
        if end + 4 > length:
            return None
        end += 4 + 4 * _EXTENSION.unpack_from(data, end)[1]
    if first & 0x20:
        padding = data[length - 1]
        if padding == 0:
            return None
        end += padding
    if end > length:
        return None
    return second & 0x7F, sequence, timestamp, ssrc


def payload_start(data: bytes | bytearray | memoryview) -> int:
    """Where the payload begins in a packet that `read_header` has taken for RTP."""
    end = HEADER_BYTES + 4 * (data[0] & 0x0F)
    return end + 4 + 4 * _EXTENSION.unpack_from(data, end)[1] if data[0] & 0x10 else end


def silence(payload_type: int, sequence: int, timestamp: int, ssrc: int) -> bytes:
    """20 ms of silence in PCMU (0) or PCMA (8). It is marked as the start of a talkspurt (RFC 3551 §4.1): what came
    before it, if anything, ended long ago."""
    header = _HEADER.pack(0x80, 0x80 | payload_type, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
    return header + _SILENCE[payload_type]


def can_be_silent(payload_type: int) -> bool:
    """Whether `silence` knows this payload type."""
    return payload_type in _SILENCE
