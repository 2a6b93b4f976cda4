"""The keys of a development cluster: an authority, a serving certificate, client certificates."""

import datetime
import hashlib
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = datetime.timedelta(days=3650)


def ensure(folder: Path) -> None:
    """Make ca.{crt,key}, serving.{crt,key} and accounts.key in `folder`, unless they are there."""
    if (folder / "accounts.key").exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox-operator-dev")])
    authority = x509.BasicConstraints(ca=True, path_length=None)
    certificate = _builder(name, name, key).add_extension(authority, critical=True)
    _write(folder / "ca", key, certificate.sign(key, hashes.SHA256()))
    hosts = x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    _issue(folder, folder / "serving", subject, ExtendedKeyUsageOID.SERVER_AUTH, hosts)
    _write_key(folder / "accounts.key", ec.generate_private_key(ec.SECP256R1()))


def client(folder: Path, user: str, groups: Sequence[str]) -> tuple[Path, Path]:
    """Certificate and key of a user; the same files for the same user and groups."""
    digest = hashlib.sha256("\0".join([user, *sorted(groups)]).encode()).hexdigest()[:12]
    stem = folder / f"client-{digest}"
    if not stem.with_suffix(".crt").exists():
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        _issue(folder, stem, x509.Name(attributes), ExtendedKeyUsageOID.CLIENT_AUTH)
    return stem.with_suffix(".crt"), stem.with_suffix(".key")


def _issue(
    folder: Path,
    stem: Path,
    subject: x509.Name,
    usage: x509.ObjectIdentifier,
    names: x509.SubjectAlternativeName | None = None,
) -> None:
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    signer = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{folder / 'ca.key'} is not an elliptic curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, authority.subject, key)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(names, critical=False)
    _write(stem, key, builder.sign(signer, hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALIDITY)
    )


def _write(stem: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _write_key(stem.with_suffix(".key"), key)  # first: the certificate's presence says complete
    stem.with_suffix(".crt").write_bytes(certificate.public_bytes(Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
