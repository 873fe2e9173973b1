"""Media workers and their client: the processes that hold the RTP ports, and how signalling commands them.

Signalling compiles rules, packets only read them. Knows nothing of SIP, and of calls only their figures of quality.
"""
