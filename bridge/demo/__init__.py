"""`sip-bridge demo`: a bridge, an application and phones on real sockets, and every message between them as a ladder.

Succeeds only if all of it happened: the calls as they should, each webhook signed, in order, none missing, and audio both
ways. With `stay`, the same bridge and application stay up for phones of one's own. However it ends, what it has started
ends with it.
"""
