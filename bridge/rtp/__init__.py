"""RTP and RTCP without I/O: packets, who may send them, what was counted (RFC 3550, 4733, 6263)."""
