"""What an operator may choose about who calls, how often, and over which wire; part of every service's settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

TOKEN_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""With a public key. One secret for who signs and who checks (HS256), or none at all, is never taken."""


class AccessSettings(BaseSettings):
    """The public door and the wire."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), validate_default=True
    )

    public_listen: str = ""
    """host:port or unix:/path of the public services, for other systems; empty serves none."""

    access: Literal["keys", "open"] = "keys"
    """Who may call the public services: holders of a key or token, or everybody on this machine."""

    keys_cached_s: float = Field(default=5.0, ge=0, le=300)
    """Seconds for which a key that was looked up is believed: so long a revoked one may still work."""

    token_keys: str = ""
    """File with the issuer's public keys (JWKS), read again when it changes; empty takes no tokens (JWT)."""

    token_issuer: str = ""
    """Who signs tokens: their `iss`. Needed by token_keys."""

    token_audience: str = ""
    """For whom tokens are made: their `aud`. Needed by token_keys."""

    token_tenant_claim: str = Field(default="tenant", min_length=1)
    """Claim of a token that names the tenant."""

    token_algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    """How tokens may be signed."""

    token_leeway_s: float = Field(default=30.0, ge=0, le=300)
    """Seconds by which the issuer's clock may differ from ours."""

    requests_per_s: float = Field(default=50.0, gt=0)
    """Calls that a tenant may make each second in the long run."""

    requests_burst: int = Field(default=100, ge=1)
    """Calls that a tenant may make at once after a pause."""

    tenant_calls_at_most: int = Field(default=64, ge=1)
    """Calls of one tenant that one process serves at once, streams among them."""

    tenant_streams_at_most: int = Field(default=16, ge=1)
    """Uploads, downloads and watched jobs of one tenant that one process serves at once."""

    stream_idle_s: float = Field(default=60.0, gt=0)
    """Seconds in which the next message of an upload must come."""

    stream_total_s: float = Field(default=6 * 3600.0, gt=0)
    """Seconds after which a stream ends, whatever deadline its caller set; clients take up what broke off."""

    connection_age_s: float = Field(default=0.0, ge=0)
    """Seconds after which a public connection is to be made anew, so that new replicas get their share; 0 keeps it."""

    tls_certificate: str = ""
    """File with the certificate of the public address and its issuers' (PEM); read again when it changes."""

    tls_key: str = ""
    """File with the key of tls_certificate (PEM)."""

    tls_client_ca: str = ""
    """File with the roots of callers' certificates (PEM): callers without one are refused before they say a word."""

    tls_offloaded: bool = False
    """Serve public calls in plain text on an address that others reach, because something before it speaks TLS."""

    mesh_certificate: str = ""
    """File with the certificate that a service shows to the others, as server and as client (PEM)."""

    mesh_key: str = ""
    """File with the key of mesh_certificate (PEM)."""

    mesh_ca: str = ""
    """File with the roots of the services' certificates (PEM)."""

    @field_validator("token_algorithms")
    @classmethod
    def _with_public_keys(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in algorithms if name not in TOKEN_ALGORITHMS]
        if wrong or not algorithms:
            raise ValueError(f"{wrong[0] if wrong else 'nothing'} is not among {', '.join(TOKEN_ALGORITHMS)}")
        return algorithms
