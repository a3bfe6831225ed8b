"""Those who call a public door: holders of keys and tokens, an issuer of tokens; and the door, a toy behind it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import jwt
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from services.common.access import keys
from services.common.access.door import build_public_server
from services.common.channels import build_channel
from services.common.records.database import Records
from services.common.records.tables import audit
from services.common.server import Server
from services.common.settings import ServiceSettings
from tests.contract.toy import Toy

SECRET = bytes(range(32))
ISSUER, AUDIENCE = "https://issuer.example", "masquerade"


@dataclass(frozen=True, slots=True)
class Door:
    """A public server, a channel to it that shows nothing by itself, and what stands behind."""

    server: Server
    channel: grpc.aio.Channel
    records: Records

    async def key(self, tenant: str = "studio", **options: Any) -> str:
        """The text of a new key."""
        return (await keys.make(self.records, SECRET, tenant=tenant, actor="test", **options))[1]

    async def lines(self, action: str) -> list[sa.Row[Any]]:
        """Lines of the audit log, oldest first."""
        statement = sa.select(audit).where(audit.c.action == action).order_by(audit.c.sequence)
        return await self.records.read(lambda connection: list(connection.execute(statement)))


def bearer(text: str) -> list[tuple[str, str]]:
    """Metadata of a call that shows this."""
    return [("authorization", f"Bearer {text}")]


@asynccontextmanager
async def public_toy(folder: Path, toy: Toy | None = None, **settings: Any) -> AsyncIterator[Door]:
    """The toy behind a public door on a free port."""
    chosen = ServiceSettings(data=folder, **{"public_listen": "127.0.0.1:0", **settings})
    records = Records(chosen.records_url())
    await records.open()
    server = build_public_server(
        [(toy or Toy()).registration()], chosen, listen=chosen.public_listen, records=records, secret=SECRET
    )
    try:
        await server.start()
        await server.warmed()
        async with build_channel(server.target, peer="toy", is_retried=False) as channel:
            yield Door(server, channel, records)
    finally:
        await server.stop(drain_s=0)
        await records.close()


class Issuer:
    """Signs tokens; its public keys lie in a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "issuer.json"
        self.private: dict[str, Any] = {
            "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }
        self.publish(self.private)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of a door that takes its tokens."""
        return {"token_keys": str(self.path), "token_issuer": ISSUER, "token_audience": AUDIENCE}

    def publish(self, private: Mapping[str, Any]) -> None:
        """Write the file with these keys' public halves, each under the name of its algorithm."""
        entries = []
        for name, key in private.items():
            public = get_default_algorithms()[name].to_jwk(key.public_key(), as_dict=True)
            entries.append({**public, "kid": name, "use": "sig"})
        writing = self.path.with_suffix(".new")
        writing.write_text(json.dumps({"keys": entries}))
        writing.replace(self.path)

    def pem(self, algorithm: str) -> bytes:
        """A public key as everybody may have it."""
        public = self.private[algorithm].public_key()
        pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem

    def claims(self, **changes: Any) -> dict[str, Any]:
        """A good token's claims, with changes; None leaves one out."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "anna",
            "tenant": "studio",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self, algorithm: str = "RS256", *, key: Any = None, headers: Mapping[str, Any] | None = None, **changes: Any
    ) -> str:
        """A signed token; good unless something is changed."""
        header = {name: value for name, value in {"kid": algorithm, **(headers or {})}.items() if value is not None}
        return jwt.encode(self.claims(**changes), key or self.private[algorithm], algorithm, headers=header)

    def forged(self, header: Mapping[str, Any], *, secret: bytes | None = None, **changes: Any) -> str:
        """A token put together by hand: not signed, or by HS256 with whatever is at hand."""
        parts = [_segment(json.dumps(part).encode()) for part in (header, self.claims(**changes))]
        signed = ".".join(parts)
        mac = b"" if secret is None else hmac.digest(secret, signed.encode(), hashlib.sha256)
        return f"{signed}.{_segment(mac)}"


def _segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
