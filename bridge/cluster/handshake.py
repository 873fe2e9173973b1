"""How two nodes prove to each other that they have the cluster's secret, and agree on keys. No I/O, no chance.

    the one that has connected                        the other one
    hello      version, nonce, who it is, who it seeks
                                                      challenge  version, nonce
    proof      of the two messages so far
                                                      verdict    and its proof

Whoever comes proves it first: who has no secret learns nothing to guess it from, and not who listens. A proof is
HMAC-SHA256 under a key that is used for nothing else, of who says it and a digest of hello and challenge. These hold both
nonces, both names and both versions, so that nothing recorded fits again. The keys of the frames, one for each direction,
are derived from the same digest.

Another major version is refused; a later minor one may say more, at the end of hello and challenge, and is not refused.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

MAJOR: Final = 1
MINOR: Final = 0
NONCE_BYTES: Final = 32

_MAGIC: Final = b"sip-bridge"
_HELLO: Final = struct.Struct(f">B{len(_MAGIC)}sBB{NONCE_BYTES}s")
_CHALLENGE: Final = struct.Struct(f">BBB{NONCE_BYTES}s")
_PROOF: Final = struct.Struct(">B32s")
_VERDICT: Final = struct.Struct(">BB32s")
_HELLO_KIND, _CHALLENGE_KIND, _PROOF_KIND, _VERDICT_KIND = b"HCPV"

_WELCOME, _WRONG_NODE, _NOT_LEASED = range(3)

Reason: TypeAlias = Literal["malformed", "version", "unproven", "wrong_node", "not_leased", "refused"]
_VERDICTS: Final[dict[int, Reason]] = {_WRONG_NODE: "wrong_node", _NOT_LEASED: "not_leased"}


class Say(NamedTuple):
    """A payload for the other side."""

    payload: bytes


class Proven(NamedTuple):
    """The other side is who it shall be. These keys prove the frames from here on."""

    owner: str  # who it is
    minor: int  # the protocol's version that both know
    sending: bytes
    receiving: bytes


class Refused(NamedTuple):
    """Close the connection, once what was said before has left."""

    reason: Reason
    detail: str


Outcome: TypeAlias = Say | Proven | Refused

_MALFORMED: Final = (Refused("malformed", "it does not speak the protocol of a cluster"),)
_LONE: Final = (Refused("unproven", "it has another cluster.secret"),)


class Handshake(Protocol):
    """One side of it. After Proven or Refused it is over."""

    def begin(self) -> tuple[Outcome, ...]:
        """The connection is there."""
        ...

    def step(self, payload: bytes) -> tuple[Outcome, ...]:
        """The other side has said something."""
        ...


class Keys:
    """What is derived from the cluster's secret, once. The secret is good for other things, which these do not touch."""

    __slots__ = ("_proving", "_session")

    def __init__(self, secret: bytes) -> None:
        self._proving = _hmac(secret, b"sip-bridge cluster: proof")
        self._session = _hmac(secret, b"sip-bridge cluster: session")

    def proof_of_dialer(self, digest: bytes) -> bytes:
        """Who has connected knows the secret."""
        return _hmac(self._proving, b"dialer" + digest)

    def proof_of_verdict(self, verdict: int, digest: bytes) -> bytes:
        """Whoever said this verdict knows the secret."""
        return _hmac(self._proving, b"verdict" + bytes((verdict,)) + digest)

    def from_dialer(self, digest: bytes) -> bytes:
        """The key of the frames of who has connected."""
        return _hmac(self._session, b"from the dialer" + digest)

    def to_dialer(self, digest: bytes) -> bytes:
        """The key of the frames for who has connected."""
        return _hmac(self._session, b"to the dialer" + digest)


class Dialing:
    """The side that has connected, because it has something for the node that it seeks."""

    __slots__ = ("_digest", "_hello", "_keys", "_minor", "_wanted")

    def __init__(self, keys: Keys, *, owner: str, wanted: str, nonce: bytes) -> None:
        """`nonce`: `NONCE_BYTES` that nobody could know, and that are used once."""
        self._keys = keys
        self._wanted = wanted
        self._hello = _HELLO.pack(_HELLO_KIND, _MAGIC, MAJOR, MINOR, nonce) + f"{owner}\0{wanted}".encode()
        self._digest = b""  # once there is a challenge
        self._minor = 0

    def begin(self) -> tuple[Outcome, ...]:
        """Say hello."""
        return (Say(self._hello),)

    def step(self, payload: bytes) -> tuple[Outcome, ...]:
        """A challenge, then a verdict."""
        return self._verdict(payload) if self._digest else self._challenge(payload)

    def _challenge(self, payload: bytes) -> tuple[Outcome, ...]:
        if len(payload) < _CHALLENGE.size or payload[0] != _CHALLENGE_KIND:
            return _MALFORMED
        _, major, minor, _nonce = _CHALLENGE.unpack_from(payload)
        if major != MAJOR:
            return (_other_version(major),)
        self._minor = min(minor, MINOR)
        self._digest = _digest(self._hello, payload)
        return (Say(_PROOF.pack(_PROOF_KIND, self._keys.proof_of_dialer(self._digest))),)

    def _verdict(self, payload: bytes) -> tuple[Outcome, ...]:
        if len(payload) != _VERDICT.size or payload[0] != _VERDICT_KIND:
            return _MALFORMED
        _, verdict, proof = _VERDICT.unpack(payload)
        keys, digest = self._keys, self._digest
        if not hmac.compare_digest(proof, keys.proof_of_verdict(verdict, digest)):
            return _LONE
        if verdict != _WELCOME:
            reason = _VERDICTS.get(verdict, "refused")
            return (Refused(reason, f"it refuses us: {reason}"),)
        return (Proven(self._wanted, self._minor, keys.from_dialer(digest), keys.to_dialer(digest)),)


class Accepting:
    """The side that was connected to."""

    __slots__ = ("_challenge", "_digest", "_is_leased", "_keys", "_minor", "_owner", "_peer", "_wanted")

    def __init__(self, keys: Keys, *, owner: str, nonce: bytes, is_leased: Callable[[str], bool]) -> None:
        """`nonce`: as for `Dialing`."""
        self._keys = keys
        self._owner = owner
        self._is_leased = is_leased
        self._challenge = _CHALLENGE.pack(_CHALLENGE_KIND, MAJOR, MINOR, nonce)
        self._digest = b""  # once there is a hello
        self._peer = ""
        self._wanted = ""
        self._minor = 0

    def begin(self) -> tuple[Outcome, ...]:
        """Wait."""
        return ()

    def step(self, payload: bytes) -> tuple[Outcome, ...]:
        """A hello, then a proof."""
        return self._proof(payload) if self._digest else self._hello(payload)

    def _hello(self, payload: bytes) -> tuple[Outcome, ...]:
        if len(payload) < _HELLO.size or payload[0] != _HELLO_KIND:
            return _MALFORMED
        _, magic, major, minor, _nonce = _HELLO.unpack_from(payload)
        if magic != _MAGIC:
            return _MALFORMED
        if major != MAJOR:
            return Say(self._challenge), _other_version(major)
        try:
            self._peer, self._wanted, *_later = payload[_HELLO.size :].decode().split("\0")
        except ValueError:  # too few, or no UTF-8
            return _MALFORMED
        self._minor = min(minor, MINOR)
        self._digest = _digest(payload, self._challenge)
        return (Say(self._challenge),)

    def _proof(self, payload: bytes) -> tuple[Outcome, ...]:
        if len(payload) != _PROOF.size or payload[0] != _PROOF_KIND:
            return _MALFORMED
        keys, digest = self._keys, self._digest
        if not hmac.compare_digest(payload[1:], keys.proof_of_dialer(digest)):
            return _LONE
        if self._wanted != self._owner:
            return self._refuse(_WRONG_NODE, f"{self._peer} seeks {self._wanted}")
        if self._peer == self._owner or not self._is_leased(self._peer):
            return self._refuse(_NOT_LEASED, f"{self._peer} holds no lease")
        proven = Proven(self._peer, self._minor, keys.to_dialer(digest), keys.from_dialer(digest))
        return self._say(_WELCOME), proven

    def _refuse(self, verdict: int, detail: str) -> tuple[Outcome, ...]:
        return self._say(verdict), Refused(_VERDICTS[verdict], detail)

    def _say(self, verdict: int) -> Say:
        return Say(_VERDICT.pack(_VERDICT_KIND, verdict, self._keys.proof_of_verdict(verdict, self._digest)))


def _digest(hello: bytes, challenge: bytes) -> bytes:
    return hashlib.sha256(struct.pack(">I", len(hello)) + hello + challenge).digest()


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _other_version(major: int) -> Refused:
    return Refused("version", f"it speaks version {major} of the protocol, and we {MAJOR}")
