"""Signatures of Standard Webhooks 1.0.0: symmetric, `v1` (HMAC-SHA256).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
Refuses to know endpoints and HTTP. A secret is never part of a message, an exception or a log line.
"""

from __future__ import annotations

import secrets as randomness
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from hmac import HMAC, compare_digest
from hmac import new as keyed

from bridge.errors import ConfigurationError

PREFIX = "whsec_"
_LENGTHS = range(24, 65)  # bytes; what the specification demands


def new_secret() -> str:
    """A fresh secret: `whsec_` and 32 random bytes in base64."""
    return PREFIX + b64encode(randomness.token_bytes(32)).decode("ascii")


def parse_secret(secret: str) -> bytes:
    """The key in `secret`: base64 of 24 to 64 bytes, after `whsec_`.

    Raises ConfigurationError, which says what would be right and does not repeat the secret.
    """
    if not secret.startswith(PREFIX):
        raise ConfigurationError(f"a webhook secret begins with {PREFIX!r}")
    try:
        key = b64decode(secret[len(PREFIX) :], validate=True)
    except Base64Error as error:
        raise ConfigurationError(f"a webhook secret is base64 after {PREFIX!r}: {error}") from None
    if len(key) not in _LENGTHS:
        raise ConfigurationError(f"a webhook secret holds 24 to 64 bytes, this one {len(key)}")
    return key


def sign(secrets: Sequence[str], event_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature per secret, space-separated, so that secrets can be rotated.

    `timestamp` is the attempt's, in whole seconds UTC.
    """
    return sign_with([make_key(secret) for secret in secrets], event_id, timestamp, body)


def make_key(secret: str) -> HMAC:
    """A secret taken up, which is half of what a short signature costs. ConfigurationError as `parse_secret`."""
    return keyed(parse_secret(secret), digestmod="sha256")


def sign_with(keys: Sequence[HMAC], event_id: str, timestamp: int, body: bytes) -> str:
    """`sign` with keys made beforehand."""
    content = b"%b.%d.%b" % (event_id.encode(), timestamp, body)
    signatures = []
    for key in keys:
        signing = key.copy()
        signing.update(content)
        signatures.append("v1," + b64encode(signing.digest()).decode("ascii"))
    return " ".join(signatures)


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the signatures is that secret's, over this body under this id and time stamp.

    How old the time stamp may be is the receiver's to judge. `headers` are looked up in lower case.
    """
    try:
        expected = sign([secret], headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        given = headers["webhook-signature"].split()
    except (KeyError, ValueError):
        return False
    return any(compare_digest(expected.encode(), each.encode()) for each in given)
