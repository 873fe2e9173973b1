"""Calls and conversations without I/O: what an application sees of SIP.

Built on `sip`, `sdp` and `rtp`; knows nothing of webhooks, stores or HTTP.
"""
