"""The exceptions of this project, and when each is raised.

    BridgeError
    ├── LocalProtocolError      we broke a protocol's rule ourselves: a bug, never something a peer can cause
    ├── ConfigurationError      the operator's settings are wrong: names the key, and what would be right
    ├── StartError              the world refuses to let us start: a port in use, no store found
    ├── StoreUnavailable        the store did not answer a read: HTTP 503 (what is written waits and is tried again)
    └── PeerGone                another node did not answer: nobody knows what became of the question

What the far end does wrong is never an exception: parsers and machines return it as a value (`Malformed`, `Refused`,
`Dropped`). What the world does (a store away, no port left) reaches the engine as an input.
"""

from __future__ import annotations


class BridgeError(Exception):
    """The root: catch it to catch everything this project raises on purpose."""


class LocalProtocolError(BridgeError):
    """We asked a state machine for something its state forbids. Always our own mistake."""


class ConfigurationError(BridgeError):
    """A setting is wrong. The message names the key and what would be right."""


class StartError(BridgeError):
    """Something outside refuses to let the service start. The message names the remedy."""


class StoreUnavailable(BridgeError):  # noqa: N818 -- says what is, like the standard library's own
    """The store did not answer a read in time. Trying again later is right."""


class PeerGone(BridgeError):  # noqa: N818 -- as above
    """Another node did not answer what it was asked. It may have done it all the same: ask what bears being repeated."""
