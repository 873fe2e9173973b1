"""`sip.tls`: with which certificates SIP is spoken over TLS, and whom it trusts (contract §5).

Files are named here and read elsewhere: at the start, and again whenever they have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from bridge.net.certificates import Pair, TlsFiles
from bridge.settings.values import Section


def _read_place(value: object) -> object:
    """A path, or `{file: path}` as a secret has it. It is the same place whoever reads it, from wherever."""
    if isinstance(value, Mapping):
        if list(value) != ["file"] or not isinstance(value["file"], str):
            raise ValueError("expected the path of a file with PEM, or {file: path}")
        value = value["file"]
    if isinstance(value, str):
        if value.lstrip().startswith("-----BEGIN"):
            raise ValueError(
                "expected the path of a file with PEM, not what stands in it: it is read again when it changes"
            )
        if not value:
            raise ValueError("expected the path of a file with PEM")
        return str(Path(value).expanduser().absolute())
    return value


_PLACE = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["file"],
            "properties": {"file": {"type": "string"}},
        },
    ]
}
PemFile: TypeAlias = Annotated[Path, BeforeValidator(_read_place), PlainSerializer(str), WithJsonSchema(_PLACE)]


class TlsPair(Section):
    """One more certificate, for who asks for one of its names (SNI)."""

    certificate: PemFile = Field(description="a file: the certificate and the intermediate ones after it, PEM")
    key: PemFile = Field(description="a file: its private key, PEM, not encrypted")


class Tls(Section):
    certificate: PemFile | None = Field(
        default=None,
        description="a file: our certificate and the intermediate ones after it, PEM; needed to listen on tls:…",
    )
    key: PemFile | None = Field(default=None, description="a file: the certificate's private key, PEM, not encrypted")
    certificates: Annotated[tuple[TlsPair, ...], Field(max_length=100)] = Field(
        default=(), description="more of them, for clients that ask for one of their names (SNI)"
    )
    ca: PemFile | None = Field(
        default=None, description="a file: the authorities that we trust, PEM; default: those of the system"
    )
    verify_client: Literal["none", "optional", "required"] = Field(
        default="none",
        description="whether who connects has to show a certificate of sip.tls.ca: none, optional or required",
    )
    verify_server: bool = Field(
        default=True,
        description="whether whom we connect to has to prove its domain (RFC 5922); false: anybody will do",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            missing = "key" if self.key is None else "certificate"
            raise ValueError(f"{missing} is missing: a certificate and its key come together")
        if self.certificate is None and self.certificates:
            raise ValueError("certificates has more of them: the first one stands in certificate and key")
        if self.verify_client != "none" and self.ca is None:
            raise ValueError(
                f"verify_client {self.verify_client} needs ca: with those of the system, anybody's certificate would do"
            )
        return self

    @property
    def files(self) -> TlsFiles | None:
        """What is to be read; None: there is no certificate."""
        if self.certificate is None or self.key is None:
            return None
        pairs = (Pair(self.certificate, self.key), *(Pair(each.certificate, each.key) for each in self.certificates))
        return TlsFiles(pairs, self.ca, self.verify_client, self.verify_server)
