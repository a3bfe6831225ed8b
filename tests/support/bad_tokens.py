"""Tokens that must not let anybody in: how each is made, and a word that the refusal of it says."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.support.callers import Issuer

BAD_TOKENS: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "alg none": (lambda i: i.forged({"alg": "none", "kid": "RS256"}), "alg"),
    "alg None": (lambda i: i.forged({"alg": "None", "kid": "RS256"}), "alg"),
    "no alg": (lambda i: i.forged({"kid": "RS256"}), "alg"),
    "HS256 with the public key": (
        lambda i: i.forged({"alg": "HS256", "kid": "RS256"}, secret=i.pem("RS256")),
        "alg",
    ),
    "RS256 said, HS256 done": (
        lambda i: i.forged({"alg": "RS256", "kid": "RS256"}, secret=i.pem("RS256")),
        "signature",
    ),
    "alg of another key": (lambda i: i.token("RS256", headers={"kid": "ES256"}), "alg"),
    "RS512": (lambda i: i.token("RS512", key=i.private["RS256"], headers={"kid": "RS256"}), "alg"),
    "signature cut off": (lambda i: i.token().rpartition(".")[0] + ".", "signature"),
    "expired": (lambda i: i.token(exp=int(time.time()) - 31), "expired"),
    "not yet": (lambda i: i.token(nbf=int(time.time()) + 40), "not valid yet"),
    "clock 10 min ahead": (
        lambda i: i.token(iat=int(time.time()) + 600, nbf=int(time.time()) + 600, exp=int(time.time()) + 1200),
        "clock",
    ),
    "clock 10 min behind": (
        lambda i: i.token(iat=int(time.time()) - 600, nbf=int(time.time()) - 600, exp=int(time.time()) - 300),
        "expired",
    ),
    "another issuer": (lambda i: i.token(iss="https://evil.example"), "iss"),
    "another audience": (lambda i: i.token(aud="payroll"), "aud"),
    "no exp": (lambda i: i.token(exp=None), "exp"),
    "no iss": (lambda i: i.token(iss=None), "iss"),
    "no aud": (lambda i: i.token(aud=None), "aud"),
    "no sub": (lambda i: i.token(sub=None), "sub"),
    "exp is a word": (lambda i: i.token(exp="tomorrow"), "token"),
    "exp is endless": (lambda i: i.token(exp=float("inf")), "token"),
    "empty subject": (lambda i: i.token(sub=""), "sub"),
    "subject of two lines": (lambda i: i.token(sub="anna\nroot"), "sub"),
    "no tenant": (lambda i: i.token(tenant=None), "tenant"),
    "tenant is a path": (lambda i: i.token(tenant="../other"), "tenant"),
    "tenant is a list": (lambda i: i.token(tenant=["studio"]), "tenant"),
    "another key": (lambda i: i.token("EdDSA", key=Issuer(i.path.parent / "evil").private["EdDSA"]), "signature"),
    "unknown kid": (lambda i: i.token(headers={"kid": "k9"}), "kid"),
    "no kid among many keys": (lambda i: i.token(headers={"kid": None}), "kid"),
    "garbage": (lambda i: "a.b.c", "token"),
    "garbage in the right letters": (lambda i: "eyJh.eyJh.eyJh", "token"),
    "too long": (lambda i: i.token(more="x" * 7000), "characters"),
}
