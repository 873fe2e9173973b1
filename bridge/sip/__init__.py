"""SIP without I/O: RFC 3261, one module per chapter.

Bytes and the time go in, effects and one deadline come out. Knows nothing of sockets, stores or webhooks.
"""
