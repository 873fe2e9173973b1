"""Character classes and small scanners of SIP's grammar: §25.1, and the reason phrases of §21.

Everything here is linear in the length of its text, whatever the text is: the regular expressions have no two ways
to match the same characters (their loops over characters are possessive), and what can occur many times is bounded. A
group is never repeated possessively: Python before 3.11.5 matches that wrongly (gh-106052), Debian 12's among them. Knows
nothing of any header field in particular.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

Parameters: TypeAlias = tuple[tuple[str, str | None], ...]
"""Parameters in their order: the name in lower case, the value as written (quotes kept) or None for a bare name."""

MAX_PARAMETERS: Final = 128  # of one value or URI; the most seen in the field is a dozen

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_QUOTED = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*"', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
# One element of a comma-separated list. An unclosed quote or bracket reaches to the end of the text, so the
# expression cannot fail anywhere, and findall never starts over inside an element.
_ELEMENT = re.compile(
    r'(?:^|,)((?:[^",<]++|"[^"\\]*+(?:\\.?+[^"\\]*+)*"?+|<[^>]*+>?+)*)',
    re.DOTALL,
)
_PARAMETER = re.compile(
    r'[ \t]*+;[ \t]*+([^\s;=",<>]++)[ \t]*+(?:=[ \t]*+("[^"\\]*+(?:\\.[^"\\]*+)*"|[^\s;",<>]*+)[ \t]*+)?',
    re.DOTALL,
)
_UNQUOTED_PARAMETER = re.compile(r"[^\s\"<>,]*+")


def is_token(text: str) -> bool:
    """Whether `text` is a `token`: a method, an option tag, a header field's name."""
    return _TOKEN.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """Whether `text` is `1*DIGIT`, and short enough to be worth reading (20 digits hold any 64-bit number)."""
    return text.isdigit() and text.isascii() and len(text) <= 20


def quoted_end(text: str) -> int:
    """The index behind the quoted string that `text` begins with; -1 when it does not end."""
    match = _QUOTED.match(text)
    return match.end() if match else -1


def quote(text: str) -> str:
    """`text` as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """What a quoted string says; text without quotes is returned as it is."""
    if text[:1] != '"':
        return text
    inner = text[1:-1]
    if "\\" not in inner:
        return inner
    # A run of backslashes pairs up from its left, so what remains single escapes the character behind it.
    return "\\".join([part.replace("\\", "") for part in inner.split("\\\\")])


def unescape(text: str) -> str:
    """`text` with each `%HH` resolved, as UTF-8 where it is that; a `%` that escapes nothing is itself."""
    if "%" not in text:
        return text
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    """`text` fit for JSON and logs: each byte that was not UTF-8 on the wire becomes U+FFFD.

    Heads are decoded with surrogateescape so that nothing is lost on the way through; such text cannot be encoded
    as plain UTF-8.
    """
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def split_list(text: str) -> list[str]:
    """The elements of a comma-separated list, stripped, without empty ones; commas in quotes and <> do not count."""
    if "," not in text:
        text = text.strip(" \t")
        return [text] if text else []
    if '"' in text or "<" in text:
        elements: list[str] = _ELEMENT.findall(text)
    else:
        elements = text.split(",")
    return [stripped for element in elements if (stripped := element.strip(" \t"))]


def first_of_list(text: str) -> tuple[str, str]:
    """The first element of a comma-separated list, and what follows its comma (empty when nothing does)."""
    if "," not in text:
        return text, ""
    if '"' not in text and "<" not in text:
        first, _, rest = text.partition(",")
        return first.rstrip(" \t"), rest.lstrip(" \t")
    match = _ELEMENT.match(text)
    end = match.end() if match else len(text)
    return text[:end].rstrip(" \t"), text[end + 1 :].lstrip(" \t")


def parameters(text: str) -> Parameters | None:
    """`;name=value;name…` to the end of `text`; None where it is malformed or has more than MAX_PARAMETERS."""
    if not text:
        return ()
    found: list[tuple[str, str | None]] = []
    if text[0] == ";" and _UNQUOTED_PARAMETER.fullmatch(text):
        pieces = text.split(";", MAX_PARAMETERS + 1)
        if len(pieces) > MAX_PARAMETERS + 1:
            return None
        del pieces[0]
        for piece in pieces:
            name, equals, value = piece.partition("=")
            if not name:
                return None
            found.append((name.lower(), value if equals else None))
        return tuple(found)
    position, end = 0, len(text)
    while position < end:
        match = _PARAMETER.match(text, position)
        if match is None or len(found) == MAX_PARAMETERS:
            return None
        found.append((match[1].lower(), match[2]))
        position = match.end()
    return tuple(found)


def print_parameters(given: Parameters) -> str:
    """The inverse of `parameters`."""
    return "".join([f";{name}" if value is None else f";{name}={value}" for name, value in given])


REASON_PHRASES: Final[dict[int, str]] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    417: "Unknown Resource-Priority",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    424: "Bad Location Information",
    425: "Bad Alert Message",
    428: "Use Identity Header",
    429: "Provide Referrer Identity",
    430: "Flow Failed",
    433: "Anonymity Disallowed",
    436: "Bad Identity Info",
    437: "Unsupported Credential",
    438: "Invalid Identity Header",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    469: "Bad Info Package",
    470: "Consent Needed",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    555: "Push Notification Service Not Supported",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
    607: "Unwanted",
    608: "Rejected",
}
"""Status code to reason phrase: RFC 3261 and the codes registered with IANA since."""
