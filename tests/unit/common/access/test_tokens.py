"""What must be said before tokens are taken, and which keys an issuer may have; contract/test_access has the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from services.common import errors
from services.common.access.issuer_keys import IssuerKeys
from services.common.access.tokens import Tokens
from services.common.settings import ServiceSettings
from tests.support.callers import Issuer


@pytest.mark.parametrize("absent", ["token_issuer", "token_audience"])
def test_tokens_of_anybody_or_for_anybody_are_not_taken(absent: str, tmp_path: Path) -> None:
    settings = ServiceSettings(**{**Issuer(tmp_path).settings, absent: ""})
    with pytest.raises(errors.InvalidSetting) as raised:
        Tokens.of(settings)
    assert raised.value.fields["setting"] == absent


def test_without_an_issuer_there_are_no_tokens() -> None:
    assert Tokens.of(ServiceSettings()) is None


@pytest.mark.parametrize("names", [("none",), ("HS256",), ("RS256", "HS512"), ("rs256",), ()])
def test_shared_secrets_and_no_signature_cannot_be_allowed(names: tuple[str, ...]) -> None:
    with pytest.raises(errors.InvalidSetting, match="token_algorithms"):
        ServiceSettings.load({"token_algorithms": names}, environ={})


def test_another_claim_may_name_the_tenant(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    tokens = Tokens.of(ServiceSettings(**issuer.settings, token_tenant_claim="org_id"))
    assert tokens is not None
    assert tokens.caller(issuer.token(tenant=None, org_id="org_AbC1")).tenant == "org_AbC1"
    with pytest.raises(Exception, match="names no tenant"):
        tokens.caller(issuer.token())


def jwks(*entries: Any) -> str:
    return json.dumps({"keys": list(entries)})


def good(tmp_path: Path) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(Issuer(tmp_path).path.read_text())["keys"][0]
    return entry


def short() -> dict[str, Any]:
    private = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    return dict(RSAAlgorithm.to_jwk(private.public_key(), as_dict=True))


def private() -> dict[str, Any]:
    return dict(RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=65537, key_size=2048), as_dict=True))


BAD = {
    "no file": lambda one: None,
    "not JSON": lambda one: "{",
    "deep": lambda one: "[" * 100_000,
    "a list": lambda one: "[]",
    "no keys": lambda one: jwks(),
    "two of one id": lambda one: jwks(one, one),
    "symmetric": lambda one: jwks(one, {"kty": "oct", "k": "c2VjcmV0", "kid": "o"}),
    "a word": lambda one: jwks("key"),
    "no modulus": lambda one: jwks({"kty": "RSA", "kid": "r"}),
    "another curve": lambda one: jwks({"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "x"}),
    "too short": lambda one: jwks(short()),
    "private": lambda one: jwks(private()),
    "only for packing": lambda one: jwks({**one, "use": "enc"}),
    "too large": lambda one: " " * (2 << 20),
}


@pytest.mark.parametrize("variant", list(BAD))
def test_a_file_of_keys_that_is_none_is_refused_at_the_start(variant: str, tmp_path: Path) -> None:
    path, content = tmp_path / "keys.json", BAD[variant](good(tmp_path))
    if content is not None:
        path.write_text(content)
    with pytest.raises(errors.InvalidSetting) as raised:
        IssuerKeys(path)
    assert raised.value.fields["setting"] == "token_keys"
    assert "c2VjcmV0" not in str(raised.value)


def test_keys_for_other_uses_are_left_aside(tmp_path: Path) -> None:
    one = good(tmp_path)
    path = tmp_path / "keys.json"
    path.write_text(jwks(one, {"kty": "RSA", "use": "enc", "kid": "e"}))
    keys = IssuerKeys(path)
    assert isinstance(keys.key(one["kid"]), jwt.PyJWK)
    assert isinstance(keys.key(None), jwt.PyJWK)
    assert keys.key("e") is None


def test_keys_stay_while_their_file_is_gone(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    keys = IssuerKeys(issuer.path)
    issuer.path.unlink()
    assert keys.key("RS256") is not None
