"""The names the field knows: header fields with their compact forms (§7.3.1, §7.3.3), methods.

What is not in here is as welcome; it only has no canonical spelling. Knows nothing of what any of them means.
"""

from __future__ import annotations

from typing import Final

METHODS: Final = frozenset({
    "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "MESSAGE", "REFER",
    "SUBSCRIBE", "NOTIFY", "PUBLISH",
})  # fmt: skip
"""The methods with an RFC of their own."""

_KNOWN: Final = """
    Accept Accept-Contact Accept-Encoding Accept-Language Accept-Resource-Priority Alert-Info Allow Allow-Events
    Authentication-Info Authorization Call-ID Call-Info Contact Content-Disposition Content-Encoding Content-ID
    Content-Language Content-Length Content-Type CSeq Date Diversion Error-Info Event Expires Feature-Caps Flow-Timer
    From Geolocation History-Info Identity Identity-Info In-Reply-To Info-Package Join Max-Breadth Max-Forwards
    MIME-Version Min-Expires Min-SE Organization P-Access-Network-Info P-Asserted-Identity P-Associated-URI
    P-Called-Party-ID P-Charging-Vector P-Early-Media P-Preferred-Identity Path Permission-Missing Priority Privacy
    Proxy-Authenticate Proxy-Authorization Proxy-Require RAck Reason Record-Route Recv-Info Refer-Sub Refer-To
    Referred-By Reject-Contact Remote-Party-ID Replaces Reply-To Request-Disposition Require Resource-Priority
    Retry-After Route RSeq Security-Client Security-Server Security-Verify Server Service-Route Session-Expires
    Session-ID SIP-ETag SIP-If-Match Subject Subscription-State Supported Target-Dialog Timestamp To Unsupported
    User-Agent Via Warning WWW-Authenticate
""".split()  # noqa: SIM905 -- ninety lines as a list literal
_COMPACT: Final = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "n": "Identity-Info",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}
CANONICAL: Final[dict[str, str]] = (
    {name: name for name in _KNOWN}
    | {name.lower(): name for name in _KNOWN}
    | {name.upper(): name for name in _KNOWN}
    | _COMPACT
    | {short.upper(): name for short, name in _COMPACT.items()}
)
"""The usual spellings of the known names, compact forms included (§7.3.3), to the one we print."""

PRINTED: Final = frozenset(_KNOWN)
"""The spellings we print, under which every known header field is kept."""


def canonical_name(name: str) -> str:
    """The spelling `name` is kept and printed under; a name nobody knows keeps its own."""
    return CANONICAL.get(name) or CANONICAL.get(name.lower()) or name
