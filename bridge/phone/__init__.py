"""A small soft phone on our own SIP, SDP and RTP: `sip-bridge call`, the demo, and tests that need a caller.

One call at a time, which it makes itself. Knows nothing of the bridge it calls.
"""
