"""Who may call: bearer tokens, compared in constant time; without a token only this machine is served."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from envs.config import ROLES, EnvServerSettings
from envs.errors import Forbidden, Unauthorized
from envs.server_settings import is_loopback

__all__ = ["Access"]

_READS = ("GET", "HEAD", "OPTIONS")


class Access:
    """Checks the ASGI scope of a request. Tokens are never logged nor shown.

    A token has a role: ``read`` looks, ``play`` also begins, steps and ends episodes, ``admin`` also sees what experts
    would do. Without any token every caller of this machine is an admin.
    """

    def __init__(self, settings: EnvServerSettings) -> None:
        known = [("play", settings.token), ("admin", settings.expert_token)]
        self._tokens = [(role, token.get_secret_value().encode()) for role, token in known if token is not None]
        for token in settings.tokens:
            role, _, secret = token.get_secret_value().partition(":")
            self._tokens.append((role, secret.encode()))
        self._open = not settings.guarded
        self._expert_guarded = any(role == "admin" for role, _ in self._tokens)

    def check(self, scope: Mapping[str, Any]) -> None:
        """Raise Unauthorized where the caller may not use the API at all, Forbidden where not in this way."""
        if self._open:
            self._check_local(scope)
            return
        role = self._role(scope)
        if role is None:
            raise Unauthorized(
                "a valid bearer token is needed", hint="send 'Authorization: Bearer <the server's ENVLOOP_TOKEN>'"
            )
        if role == "read" and scope.get("method") not in _READS:
            raise Forbidden("this token may only read", hint="use a token whose role is play or admin")

    def check_expert(self, scope: Mapping[str, Any]) -> None:
        """Raise Forbidden where the caller may not see expert actions."""
        # Without any token, check() has admitted only this machine.
        allowed = self._role(scope) == "admin" if self._expert_guarded else self._open
        if not allowed:
            raise Forbidden(
                "expert actions need the expert token",
                hint="start the server with ENVLOOP_EXPERT_TOKEN and send it as the bearer token",
            )

    def _role(self, scope: Mapping[str, Any]) -> str | None:
        """The most that the caller's token gives. Every token is compared, so that the time tells nothing."""
        given = _bearer(scope)
        found = [role for role, token in self._tokens if hmac.compare_digest(given, token)]
        return max(found, key=ROLES.index, default=None)

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
