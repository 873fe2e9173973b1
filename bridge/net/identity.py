"""Who a certificate says that the far end is, and whether that is who we meant to reach (RFC 5922 §7).

Reads what `ssl` tells of a certificate that was verified up to a trusted root; what is verified there is not its affair.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final

from bridge.sip.uri import SipUri, parse_uri

_SHOWN_MOST: Final = 3  # names of a certificate
_SHOWN_LENGTH: Final = 64
_FOREIGN: Final = re.compile(r"[^a-z0-9.:*_-]")


def identities(certificate: Mapping[str, Any]) -> frozenset[str]:
    """The domains and IP addresses that this certificate stands for, in lower case (RFC 5922 §7.1).

    `certificate`: as `SSLObject.getpeercert` has it. A `sip:` URI without user in its subjectAltName counts most: only
    where there is none do DNS names, and only where there is no subjectAltName at all does the subject's common name. IP
    addresses stand beside them, for targets that are one.
    """
    alternatives: tuple[tuple[str, str], ...] = certificate.get("subjectAltName", ())
    addresses = {address for kind, value in alternatives if kind == "IP Address" if (address := _address(value))}
    domains = {domain for kind, value in alternatives if kind == "URI" and (domain := _domain(value)) is not None}
    if not domains:
        domains = {value.lower().rstrip(".") for kind, value in alternatives if kind == "DNS"}
    if not alternatives:
        subject = [pair for names in certificate.get("subject", ()) for pair in names]
        domains = {value.lower().rstrip(".") for kind, value in subject if kind == "commonName"}
    return frozenset(domains | addresses)


def proves(certificate: Mapping[str, Any], name: str) -> bool:
    """Whether this certificate stands for `name`, a domain or an IP address. Wildcards match nobody (RFC 5922 §7.2)."""
    wanted = _address(name.partition("%")[0]) or name.lower().rstrip(".")
    return "*" not in wanted and wanted in identities(certificate)


class NoAgreement(OSError):  # noqa: N818 -- as the tree of `bridge.errors` has it
    """A handshake has come to nothing. Its text says why, as a reason phrase."""


def no_agreement(error: OSError | ValueError) -> NoAgreement:
    """What a handshake has ended with, so that it can be told from what ends a connection without TLS."""
    text = tls_failure(error)
    if not text:
        text = "TLS Failed: connection closed"
        if isinstance(error, TimeoutError | ConnectionAbortedError):  # as the loops say it
            text = "TLS Failed: no handshake in time"
        elif isinstance(error, ValueError):
            text = "TLS Failed: what came cannot be read"
    return NoAgreement(text)


def tls_failure(error: BaseException | None) -> str:
    """Why TLS has failed, as a reason phrase; empty for what has another reason."""
    if isinstance(error, NoAgreement):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"Certificate Not Trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS Failed: {(error.reason or 'connection closed').replace('_', ' ').lower()}"
    return ""


def shown(certificate: Mapping[str, Any]) -> str:
    """For whom it stands, as far as a reason phrase has room. A stranger has written it: nothing but names gets through."""
    names = sorted(identities(certificate))
    rest = f" and {len(names) - _SHOWN_MOST} more" if len(names) > _SHOWN_MOST else ""
    told = [_FOREIGN.sub("?", each)[:_SHOWN_LENGTH] for each in names[:_SHOWN_MOST]]
    return (", ".join(told) or "nobody") + rest


def _address(text: str) -> str:
    """An IP address as there is one way to write it; empty: it is none."""
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        return ""


def _domain(uri: str) -> str | None:
    """The domain that a `sip:` URI of a subjectAltName stands for; None: it stands for a user, or is another scheme."""
    parsed = parse_uri(uri)
    if not isinstance(parsed, SipUri) or parsed.scheme != "sip" or parsed.user is not None:
        return None
    return parsed.host.strip("[]").lower().rstrip(".")
