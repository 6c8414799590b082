"""Alembic's environment of the episode store. Run by ``rollout_server.store_migrations`` on a connection of its own.

The caller holds the lock and the transaction; nothing is committed here.
"""

from __future__ import annotations

from alembic import context

from rollout_server.episode_table import Base
from rollout_server.store_migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
