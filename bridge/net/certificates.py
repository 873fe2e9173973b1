"""TLS as files say it: certificates, their keys, whom to trust. Read at once, and again without anybody noticing.

What is read is used whole or not at all: a pair that does not fit keeps the one before it in force. Connections that are
up keep what they have begun with. Which connections there are, and when to look again, is not decided here.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeAlias

from cryptography import x509

from bridge.errors import ConfigurationError

KeyPath: TypeAlias = tuple[str | int, ...]  # of a key within sip.tls: ("certificates", 0, "key")
VerifyClient: TypeAlias = Literal["none", "optional", "required"]
Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]

_CLIENTS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_CHAIN: Final = "expected PEM, our own certificate first and the intermediate ones after it"


class TlsFileError(ConfigurationError):
    """A file that TLS cannot do with."""

    def __init__(self, key: KeyPath, text: str) -> None:
        self.key = key  # that names the file
        self.text = text
        super().__init__(f"sip.tls.{_dotted(key)}: {text}")


@dataclass(frozen=True, slots=True)
class Pair:
    """One certificate, with the intermediate ones behind it, and its private key. Both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What `sip.tls` says."""

    pairs: tuple[Pair, ...]  # the first is for who asks for no name, or for one that nobody has
    ca: Path | None = None  # None: those that the system trusts
    verify_client: VerifyClient = "none"
    verify_server: bool = True


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was in the files at one moment."""

    server: ssl.SSLContext  # for connections that we accept
    client: ssl.SSLContext  # for those that we make
    leaves: tuple[x509.Certificate, ...]  # of the pairs, in their order

    @property
    def expires_at(self) -> float:
        """Seconds UTC: when the first of our own certificates ends."""
        return min(each.not_valid_after_utc.timestamp() for each in self.leaves)


class Certificates:
    """The contexts that are in force."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises TlsFileError."""
        self._files = files
        self._stamp = self.stamp()  # before they are read: what changes meanwhile is read again
        self._loaded = load(files)

    @property
    def loaded(self) -> Loaded:
        return self._loaded

    @property
    def verifies_servers(self) -> bool:
        return self._files.verify_server

    def reload(self) -> None:
        """Read everything again. Raises TlsFileError, and changes nothing then."""
        self._stamp = self.stamp()
        self._loaded = load(self._files)

    def has_changed(self) -> bool:
        """Whether the files are others than those that were read, or tried, last."""
        return self.stamp() != self._stamp

    def stamp(self) -> Stamp:
        """What tells one state of the files from another, without reading them."""
        return tuple(_stamp_of(path) for _, path in _paths(self._files))


def load(files: TlsFiles) -> Loaded:
    """Read all files. TlsFileError names the key of the first one that is not what it should be."""
    for key, path in _paths(files):
        _read(key, path)
    contexts, leaves = [], []
    for place, pair in _placed(files.pairs):
        leaves.append(_leaf((*place, "certificate"), pair.certificate))
        context = _context(ssl.PROTOCOL_TLS_SERVER, place, pair)
        context.verify_mode = _CLIENTS[files.verify_client]
        if files.ca is not None:
            _trust(context, files.ca)
        contexts.append(context)
    contexts[0].sni_callback = partial(_choose, _by_name(contexts, leaves))
    client = _context(ssl.PROTOCOL_TLS_CLIENT, *next(_placed(files.pairs)))
    client.check_hostname = False  # what a name of SIP proves is `identity`'s: RFC 5922, not RFC 2818
    client.verify_mode = ssl.CERT_REQUIRED if files.verify_server else ssl.CERT_NONE
    if files.ca is not None:
        _trust(client, files.ca)
    else:
        client.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return Loaded(contexts[0], client, tuple(leaves))


def names_of(leaf: x509.Certificate) -> frozenset[str]:
    """The domains that this certificate stands for, in lower case, to find it by what a client asks for."""
    try:
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return frozenset(str(each.value).lower() for each in common)
    names = set(alternatives.get_values_for_type(x509.DNSName))
    for uri in alternatives.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.lower().startswith("sip:") and "@" not in uri:
            names.add(uri[4:].partition(":")[0].partition(";")[0])
    return frozenset(each.lower().rstrip(".") for each in names)


def _paths(files: TlsFiles) -> Iterator[tuple[KeyPath, Path]]:
    for place, pair in _placed(files.pairs):
        yield (*place, "certificate"), pair.certificate
        yield (*place, "key"), pair.key
    if files.ca is not None:
        yield ("ca",), files.ca


def _placed(pairs: Sequence[Pair]) -> Iterator[tuple[KeyPath, Pair]]:
    """Each pair, and where its keys stand: the first one's in `sip.tls` itself, the others' in `certificates`."""
    for number, pair in enumerate(pairs):
        yield ("certificates", number - 1) if number else (), pair


def _read(key: KeyPath, path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TlsFileError(key, f"cannot read {path}: {error.strerror}") from error
    if not data.strip():
        raise TlsFileError(key, f"{path} is empty")
    return data


def _leaf(key: KeyPath, path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(_read(key, path))[0]
    except ValueError:
        raise TlsFileError(key, f"{path} has no certificate: {_CHAIN}") from None


def _context(protocol: int, place: KeyPath, pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    key = (*place, "key")
    try:
        context.load_cert_chain(pair.certificate, pair.key, password=_refusing(key, pair.key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"the key in {pair.key} does not belong to the certificate in {pair.certificate}"
            raise TlsFileError(key, text) from None
        if "KEY_TOO_SMALL" in (error.reason or "") or "MD_TOO_WEAK" in (error.reason or ""):
            text = (
                f"{pair.certificate} is too weak ({error.reason}): expected RSA from 2,048 bits, or P-256, and SHA-256"
            )
            raise TlsFileError((*place, "certificate"), text) from None
        raise TlsFileError(key, f"{pair.key} has no private key: expected PEM, not encrypted") from None
    except OSError as error:
        raise TlsFileError(key, f"cannot read {pair.key}: {error.strerror}") from error
    return context


def _refusing(key: KeyPath, path: Path) -> Callable[[], str]:
    """In place of a password: without it OpenSSL would ask whoever sits at the terminal."""

    def refuse() -> NoReturn:
        raise TlsFileError(key, f"the key in {path} is encrypted: take that away (openssl pkey -in ... -out ...)")

    return refuse


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise TlsFileError(
            ("ca",), f"{ca} has no certificate: expected PEM, one or more authorities to trust"
        ) from None


def _by_name(contexts: Sequence[ssl.SSLContext], leaves: Sequence[x509.Certificate]) -> dict[str, ssl.SSLContext]:
    found: dict[str, ssl.SSLContext] = {}
    for context, leaf in zip(contexts, leaves, strict=True):
        for name in names_of(leaf):
            found.setdefault(name, context)
    return found


def _choose(
    by_name: dict[str, ssl.SSLContext], connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext
) -> int | None:
    """The certificate of the name that the client asks for (RFC 6066 §3). A name that nobody has gets the first one."""
    wanted = (name or "").lower().rstrip(".")
    chosen = by_name.get(wanted) or by_name.get(f"*.{wanted.partition('.')[2]}")
    if chosen is not None:
        connection.context = chosen
    return None


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Of a file that can be replaced in place, by renaming, or behind a link, as Kubernetes does it."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_ino, about.st_size


def _dotted(key: KeyPath) -> str:
    text = ""
    for step in key:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
