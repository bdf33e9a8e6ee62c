"""C2PA: who says where an image comes from, signed. Offline: no timestamp authority, no lookup.

Needs the extra ``c2pa``. A signature of one's own proves that the file was not changed since; it
is *trusted* only by those who have its root certificate.
"""

from __future__ import annotations

import datetime
import io
import json
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from runner.images.metadata import NoRoomError, Origin

_MIMES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", "image/avif"})
_SETTINGS = {"builder": {"thumbnail": {"enabled": False}}}
"""A thumbnail in every manifest would add 0.2 to 1.9 MB to each image."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs.

    Attributes:
        certificates: The chain in PEM, the signer's own first.
        key: Its private key in PEM; printed by nothing.
    """

    certificates: str
    key: str

    def __repr__(self) -> str:
        return "Credentials(***)"


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed image.

    Attributes:
        data: The file; untouched where the manifest stands beside it.
        sidecar: The manifest store, to keep as ``.c2pa``; ``None`` where it is in the file.
    """

    data: bytes
    sidecar: bytes | None


def available() -> bool:
    """Whether the library is installed."""
    return find_spec("c2pa") is not None


def sign(
    data: bytes,
    mime: str,
    credentials: Credentials,
    origin: Origin,
    *,
    facts: dict[str, str | int],
    parent: bytes | None = None,
    embed: bool = True,
) -> Signed:
    """Sign an image as made by a trained model.

    Args:
        data: The file, further metadata already in it: nothing may be added later.
        mime: Its type.
        credentials: Who signs.
        origin: How it was made.
        facts: Carried along: run and cell, hash of the untouched file.
        parent: The provider's own file, if that is signed: its manifest is kept as an ingredient.
        embed: Put the manifest into the file, else make a sidecar.

    Returns:
        Different bytes each time: signatures are not deterministic.

    Raises:
        NoRoomError: The format takes no manifest.
        ValueError: The credentials are not usable.
    """
    import c2pa

    if mime not in _MIMES:
        raise NoRoomError(f"{mime} takes no C2PA manifest")
    title = f"{origin.provider} {origin.model}"
    manifest: dict[str, Any] = {
        "claim_generator_info": [{"name": origin.software.rpartition(" ")[0] or origin.software}],
        "title": title,
        "assertions": [{"label": "org.image-batch-runner.run", "data": facts}],
    }
    out = io.BytesIO()
    try:
        info = c2pa.C2paSignerInfo(
            b"es256", credentials.certificates.encode(), credentials.key.encode(), None
        )
        context = c2pa.Context.from_dict(_SETTINGS)
        signer = c2pa.Signer.from_info(info)
        builder = c2pa.Builder(manifest, context=context)
        if parent is None:
            builder.set_intent(
                c2pa.C2paBuilderIntent.CREATE,
                c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
            )
        else:
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
            ingredient = json.dumps({"title": title, "relationship": "parentOf"})
            builder.add_ingredient(ingredient, mime, io.BytesIO(parent))
        if not embed:
            builder.set_no_embed()
        store = builder.sign(signer, mime, io.BytesIO(data), out)
    except c2pa.C2paError as error:
        raise ValueError(f"C2PA refused to sign: {error}") from None
    return Signed(out.getvalue(), None) if embed else Signed(data, bytes(store))


def read(data: bytes, mime: str, sidecar: bytes | None = None) -> dict[str, str] | None:
    """What the C2PA manifest of a file says.

    Returns:
        ``state`` (``Valid``, ``Trusted``, ``Invalid``), ``signer`` and ``generator`` where they are
        named; ``None`` where there is no manifest, or the library is missing.
    """
    if not available() or mime not in _MIMES:
        return None
    import c2pa

    try:
        with c2pa.Reader(mime, io.BytesIO(data), manifest_data=sidecar) as reader:
            report = json.loads(reader.json())
    except c2pa.C2paError:
        return None
    active = report.get("manifests", {}).get(report.get("active_manifest"), {})
    signature = active.get("signature_info") or {}
    generator = (active.get("claim_generator_info") or [{}])[0].get("name")
    found = {
        "state": report.get("validation_state"),
        "signer": signature.get("issuer") or signature.get("common_name"),
        "generator": generator or active.get("claim_generator"),
    }
    return {name: str(value) for name, value in found.items() if value}


def make_test_credentials() -> Credentials:
    """A root and a signer's certificate of one's own, for a year: valid, and trusted by nobody.

    The profile is C2PA's: ES256, key usage *digital signature*, extended key usage *e-mail
    protection* (C2PA 2.2, 14.5).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)

    def name(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "image-batch-runner test"),
                x509.NameAttribute(NameOID.COMMON_NAME, common),
            ]
        )

    def certificate(
        subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, *, authority: bool
    ) -> x509.CertificateBuilder:
        usage = x509.KeyUsage(
            digital_signature=not authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=authority,
            crl_sign=authority,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("root", "root", root_key, authority=True).sign(root_key, hashes.SHA256())
    leaf = (
        certificate("signer", "root", key, authority=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
            critical=False,
        )
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    chain = leaf.public_bytes(pem) + root.public_bytes(pem)
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Credentials(chain.decode(), private.decode())
