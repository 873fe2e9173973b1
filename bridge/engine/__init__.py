"""The engine: one node's decisions, without I/O. `give(input, now=)` returns effects; `deadline()` the one time to wake it.

Joins `sip`, `sdp`, `calls` and `outbox`; states in small Protocols what it needs of each adapter.
"""
