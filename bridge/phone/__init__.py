"""A small soft phone on our own SIP, SDP and RTP: `sip-bridge call` and `phone`, the demo, and tests that need one.

One call at a time, which it makes or takes. Knows nothing of the bridge that it calls.
"""
