"""bridge: a SIP-to-HTTP webhook bridge."""

__version__ = "0.1.0"
