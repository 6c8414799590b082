"""The HTTP face of the environments. Import ``envs.server.app`` to make one; this package itself loads nothing."""

from __future__ import annotations

__all__: list[str] = []
