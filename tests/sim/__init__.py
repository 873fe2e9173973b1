"""The simulation: real engines, and around them a world that is drawn from one seed.

Nodes, phones, applications and a store live on a virtual network and a virtual clock: a heap and a loop. Everything
that chance decides is drawn from the seed, so a run that fails can be had again, to the last packet:
`python -m tests.sim SEED` prints its ladder. The phones are written against RFC 3261 and import nothing of `bridge`:
a mistake of ours shall not be made twice.
"""
