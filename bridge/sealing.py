"""What the store may have of a secret: AES-256-GCM under a key that is derived from the cluster's secret (survival §2).

Any node of a cluster unseals what another one has sealed. A text that was changed, or sealed under another secret, is no
secret any more. Refuses to know what is kept secret, and where.
"""

from __future__ import annotations

import hmac
from base64 import b32decode, urlsafe_b64decode, urlsafe_b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridge.ambient import Tokens

_PURPOSE = b"sip-bridge: what is sealed in the store"  # the same secret signs names, under a key of its own
_FORM = "1."  # what each sealed text begins with; another cipher would have another
_NONCE_LENGTH = 12  # bytes (NIST SP 800-38D §8.2.2: random ones, for fewer than 2**32 texts under one key)


class ClusterSeal:
    """`Seal` under the secret of a cluster."""

    __slots__ = ("_cipher", "_tokens")

    def __init__(self, secret: bytes, tokens: Tokens) -> None:
        self._cipher = AESGCM(hmac.digest(secret, _PURPOSE, "sha256"))
        self._tokens = tokens

    def seal(self, secret: str) -> str:
        """`1.` and base64url of nonce, ciphertext and tag: some 40 characters more than the secret."""
        nonce = b32decode(self._tokens.token(24).upper())[:_NONCE_LENGTH]
        sealed = self._cipher.encrypt(nonce, secret.encode(), _FORM.encode())
        return _FORM + urlsafe_b64encode(nonce + sealed).decode("ascii")

    def unseal(self, sealed: str) -> str | None:
        """The secret; None for what this key has not sealed."""
        if not sealed.startswith(_FORM):
            return None
        try:
            data = urlsafe_b64decode(sealed[len(_FORM) :])
            return self._cipher.decrypt(data[:_NONCE_LENGTH], data[_NONCE_LENGTH:], _FORM.encode()).decode()
        except (ValueError, InvalidTag):
            return None
