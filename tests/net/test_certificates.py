"""Files become contexts, all or none; what is wrong with one is said with its key."""

from __future__ import annotations

import os
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from bridge.ambient import SystemClock
from bridge.net.certificates import Certificates, Pair, TlsFileError, TlsFiles, load, names_of
from tests.support.certificates import Authority, encrypted


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def serial(certificates: Certificates) -> int:
    return certificates.loaded.leaves[0].serial_number


def test_what_is_read(authority: Authority) -> None:
    pairs = (authority.pair(dns=["a.example"]), authority.pair(dns=["b.example"], expires_in=timedelta(days=2)))
    loaded = load(TlsFiles(pairs, authority.path, verify_client="required"))
    assert loaded.server.minimum_version == loaded.client.minimum_version == ssl.TLSVersion.TLSv1_2
    assert (loaded.server.verify_mode, loaded.client.verify_mode) == (ssl.CERT_REQUIRED, ssl.CERT_REQUIRED)
    assert abs(loaded.expires_at - SystemClock().now() - 2 * 86_400) < 3600  # of the one that ends first
    assert [names_of(each) for each in loaded.leaves] == [{"a.example"}, {"b.example"}]


def test_without_authorities_of_ours_the_system_says_whom_to_trust(authority: Authority) -> None:
    loaded = load(TlsFiles((authority.pair(),)))
    assert loaded.client.verify_mode == ssl.CERT_REQUIRED
    assert loaded.server.verify_mode == ssl.CERT_NONE


def wrong_files(authority: Authority, tmp_path: Path) -> dict[str, TlsFiles]:
    good, other = authority.pair(), authority.pair()
    absent, empty, noise = tmp_path / "absent", tmp_path / "empty", tmp_path / "noise"
    empty.touch()
    noise.write_bytes(b"-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n")
    return {
        f"certificate: cannot read {absent}: No such file or directory": TlsFiles((Pair(absent, good.key),)),
        f"key: cannot read {absent}: No such file or directory": TlsFiles((Pair(good.certificate, absent),)),
        f"ca: cannot read {absent}: No such file or directory": TlsFiles((good,), absent),
        f"certificate: {empty} is empty": TlsFiles((Pair(empty, good.key),)),
        f"certificate: {noise} has no certificate: expected PEM": TlsFiles((Pair(noise, good.key),)),
        f"certificate: {good.key} has no certificate: expected PEM": TlsFiles((Pair(good.key, good.key),)),
        f"key: {good.certificate} has no private key: expected PEM": TlsFiles(
            (Pair(good.certificate, good.certificate),)
        ),
        f"key: the key in {other.key} does not belong to the certificate in {good.certificate}": TlsFiles(
            (Pair(good.certificate, other.key),)
        ),
        "key: the key in": TlsFiles((encrypted(good),)),
        f"ca: {good.key} has no certificate": TlsFiles((good,), good.key),
        "certificates[0].key: the key in": TlsFiles((good, Pair(good.certificate, other.key))),
    }


def test_what_is_wrong_is_said_with_its_key(authority: Authority, tmp_path: Path) -> None:
    for expected, files in wrong_files(authority, tmp_path).items():
        with pytest.raises(TlsFileError) as raised:
            load(files)
        assert str(raised.value).startswith(f"sip.tls.{expected}"), expected


def test_a_key_with_a_password_is_not_asked_for_it(authority: Authority) -> None:
    with pytest.raises(TlsFileError, match="is encrypted"):
        load(TlsFiles((encrypted(authority.pair()),)))


# Again


def test_what_has_changed_is_noticed_and_read(authority: Authority) -> None:
    certificates = Certificates(TlsFiles((authority.pair(file="live"),), authority.path))
    first = serial(certificates)
    assert not certificates.has_changed()
    authority.pair(file="live")
    assert certificates.has_changed()
    certificates.reload()
    assert not certificates.has_changed()
    assert serial(certificates) != first


def test_a_link_to_another_directory_is_a_change(authority: Authority, tmp_path: Path) -> None:
    """How Kubernetes replaces what it has mounted."""
    for name in ("one", "two"):
        pair = authority.pair()
        (tmp_path / name).mkdir()
        for old, new in ((pair.certificate, "tls.crt"), (pair.key, "tls.key")):
            old.rename(tmp_path / name / new)
    link = tmp_path / "data"
    link.symlink_to("one")
    certificates = Certificates(TlsFiles((Pair(link / "tls.crt", link / "tls.key"),)))
    first = serial(certificates)
    (tmp_path / "next").symlink_to("two")
    os.replace(tmp_path / "next", link)
    assert certificates.has_changed()
    certificates.reload()
    assert serial(certificates) != first


def test_a_broken_pair_keeps_the_one_before_it_and_is_not_tried_again_until_it_changes(authority: Authority) -> None:
    live = authority.pair(file="live")
    certificates = Certificates(TlsFiles((live, authority.pair()), authority.path))
    before = certificates.loaded
    live.key.write_bytes(authority.pair().key.read_bytes())
    with pytest.raises(TlsFileError, match="does not belong"):
        certificates.reload()
    assert certificates.loaded is before
    assert not certificates.has_changed()
    live.key.unlink()
    assert certificates.has_changed()


def test_names_by_which_a_certificate_is_found(authority: Authority) -> None:
    def names(**which: list[str]) -> frozenset[str]:
        return names_of(x509.load_pem_x509_certificate(authority.pair(**which).certificate.read_bytes()))  # type: ignore[arg-type]

    assert names(dns=["A.example"], uris=["sip:b.example", "sip:bob@c.example", "https://d.example"]) == {
        "a.example",
        "b.example",
    }
    assert names() == {"a test"}
