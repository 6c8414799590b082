"""DB Bench of AgentBench: questions about and changes to a MySQL database that belongs to the episode alone."""

from __future__ import annotations

__all__: list[str] = []
