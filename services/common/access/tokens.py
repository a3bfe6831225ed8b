"""Tokens (JWT) of an issuer that the operator trusts: who signed, for whom, until when, and for which tenant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import jwt
from jwt.exceptions import InvalidSubjectError

from services.common.access.callers import Caller, is_tenant
from services.common.access.issuer_keys import IssuerKeys
from services.common.access.refusals import Refused
from services.common.access.settings import AccessSettings
from services.common.errors import InvalidSetting

TOKEN_CHARACTERS: Final = 8192
SUBJECT_CHARACTERS: Final = 128

_PROBLEMS: Final[tuple[tuple[type[jwt.PyJWTError], str, str], ...]] = (
    (jwt.ExpiredSignatureError, "expired_token", "the token has expired"),
    (jwt.ImmatureSignatureError, "early_token", "the token is not valid yet; is a clock wrong?"),
    (jwt.InvalidAudienceError, "bad_audience", "the token is for somebody else (aud)"),
    (jwt.InvalidIssuerError, "bad_issuer", "the token is of another issuer (iss)"),
    (jwt.InvalidAlgorithmError, "bad_algorithm", "the token is signed in a way that is not taken here (alg)"),
    (jwt.InvalidSignatureError, "bad_signature", "the token's signature does not hold"),
    (InvalidSubjectError, "bad_subject", "the token's subject is not text (sub)"),
    (jwt.InvalidIssuedAtError, "bad_token", "the token's time is no number (iat)"),
)
"""What goes wrong with a token, how it is counted, and what its holder is told: our words, never the token's."""


class Tokens:
    """Tells who shows a token."""

    def __init__(self, settings: AccessSettings) -> None:
        """Read the issuer's keys.

        Raises:
            InvalidSetting: they cannot be read, or the settings do not say whose tokens they are and for whom.
        """
        for name in ("token_issuer", "token_audience"):
            if not getattr(settings, name):
                raise InvalidSetting(
                    setting=name,
                    problem="is empty",
                    remedy="tokens of anybody, or made for anybody, would be taken: set it, or unset token_keys",
                )
        self._settings = settings
        self._keys = IssuerKeys(Path(settings.token_keys))

    @classmethod
    def of(cls, settings: AccessSettings) -> Self | None:
        """As the settings say; None where they name no issuer."""
        return cls(settings) if settings.token_keys else None

    def caller(self, token: str) -> Caller:
        """Who shows this token.

        Raises:
            Refused: it does not hold; says why, and nothing of what was in it.
        """
        if len(token) > TOKEN_CHARACTERS:
            raise Refused("bad_token", f"the token has more than {TOKEN_CHARACTERS} characters")
        claims = self._checked(token)
        subject, tenant = claims["sub"], claims.get(self._settings.token_tenant_claim)
        if not subject or len(subject) > SUBJECT_CHARACTERS or not subject.isprintable():
            raise Refused("bad_subject", f"the token's subject has 1 to {SUBJECT_CHARACTERS} characters of text (sub)")
        if not is_tenant(tenant):
            problem = "names no tenant" if tenant is None else "names something that cannot be a tenant"
            raise Refused("bad_tenant", f"the token {problem} ({self._settings.token_tenant_claim})")
        return Caller(str(tenant), f"jwt:{subject}")

    def _checked(self, token: str) -> Mapping[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            # Before a key is looked for: of `none` and of shared secrets not even the key's name is of interest.
            if header.get("alg") not in self._settings.token_algorithms:
                raise jwt.InvalidAlgorithmError
            key = self._keys.key(header.get("kid"))
            if key is None:
                raise Refused("unknown_issuer_key", "the token is signed with a key that is not known here (kid)")
            if header["alg"] != key.algorithm_name:
                raise jwt.InvalidAlgorithmError
            return jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._settings.token_audience,
                issuer=self._settings.token_issuer,
                leeway=self._settings.token_leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.MissingRequiredClaimError as error:
            raise Refused("missing_claim", f"the token lacks {error.claim}") from None
        except jwt.PyJWTError as error:
            for error_class, kind, problem in _PROBLEMS:
                if isinstance(error, error_class):
                    raise Refused(kind, problem) from None
            raise Refused("bad_token", "the token cannot be read") from None
        except (ValueError, TypeError, OverflowError, RecursionError):
            # Numbers that are none, deep nesting: whatever the library's own checks let through.
            raise Refused("bad_token", "the token cannot be read") from None
