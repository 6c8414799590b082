"""Who may call: bearer tokens, compared in constant time; without a token only this machine is served."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from envs.config import EnvServerSettings
from envs.errors import Forbidden, Unauthorized
from envs.server_settings import is_loopback

__all__ = ["Access"]


class Access:
    """Checks the ASGI scope of a request. Tokens are never logged nor shown."""

    def __init__(self, settings: EnvServerSettings) -> None:
        self._token = settings.token.get_secret_value().encode() if settings.token else None
        self._expert = settings.expert_token.get_secret_value().encode() if settings.expert_token else None

    def check(self, scope: Mapping[str, Any]) -> None:
        """Raise Unauthorized where the caller may not use the API at all."""
        if self._token is None:
            self._check_local(scope)
            return
        given = _bearer(scope)
        if not (_same(given, self._token) or _same(given, self._expert)):
            raise Unauthorized(
                "a valid bearer token is needed", hint="send 'Authorization: Bearer <the server's ENVLOOP_TOKEN>'"
            )

    def check_expert(self, scope: Mapping[str, Any]) -> None:
        """Raise Forbidden where the caller may not see expert actions."""
        # Without any token, check() has admitted only this machine.
        allowed = _same(_bearer(scope), self._expert) if self._expert else self._token is None
        if not allowed:
            raise Forbidden(
                "expert actions need the expert token",
                hint="start the server with ENVLOOP_EXPERT_TOKEN and send it as the bearer token",
            )

    def _check_local(self, scope: Mapping[str, Any]) -> None:
        # The Host header is checked as well: a tunnel or a rebound DNS name reaches loopback under another name.
        client = scope.get("client")
        host = _header(scope, b"host").decode("latin-1")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if client is None or not is_loopback(client[0]) or not is_loopback(name):
            raise Unauthorized(
                "this server has no token and so serves its own machine only",
                hint="start it with ENVLOOP_TOKEN, and send that as the bearer token",
            )


def _header(scope: Mapping[str, Any], name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def _bearer(scope: Mapping[str, Any]) -> bytes:
    scheme, _, token = _header(scope, b"authorization").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _same(given: bytes, secret: bytes | None) -> bool:
    return secret is not None and hmac.compare_digest(given, secret)
