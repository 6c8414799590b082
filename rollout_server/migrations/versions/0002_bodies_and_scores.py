"""Records in a table of their own, an index per usual filter, scores under other rules.

Revision: 0002. Where table definitions are no transactions (MySQL, MariaDB) it may stop anywhere: every part looks
whether it is done already, so that the next opener goes on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGBLOB, VARCHAR

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OLD = {"ix_episodes_env_task_id": ["env", "task_id"], "ix_episodes_run": ["run"], "ix_episodes_policy": ["policy"]}
_NEW = {
    f"ix_episodes_{name}_started_at_id": [name, "started_at", "id"]
    for name in ("env", "task_id", "run", "policy", "status", "split", "task_type")
}


def _text(length: int) -> sa.String:
    exact = VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(exact, "mysql", "mariadb")


def upgrade() -> None:
    """To this revision: every record moves, none is lost."""
    columns = _columns()
    if "body_bytes" not in columns:
        op.add_column("episodes", sa.Column("body_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    tables = set(sa.inspect(op.get_bind()).get_table_names())
    if "episode_bodies" not in tables:
        body = sa.Column("body", sa.LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb"), nullable=False)
        key = sa.PrimaryKeyConstraint("id", name="pk_episode_bodies")
        op.create_table("episode_bodies", sa.Column("id", _text(64), nullable=False), body, key)
    if "episode_scores" not in tables:
        op.create_table(
            "episode_scores",
            sa.Column("episode_id", _text(64), nullable=False),
            sa.Column("rules", _text(64), nullable=False),
            sa.Column("reward", sa.Double(), nullable=False),
            sa.Column("scored_at", _text(40), nullable=False),
            sa.PrimaryKeyConstraint("episode_id", "rules", name="pk_episode_scores"),
        )
    if "body" in columns:
        op.execute("UPDATE episodes SET body_bytes = length(body)")
        op.execute(
            "INSERT INTO episode_bodies (id, body) SELECT id, body FROM episodes"
            " WHERE NOT EXISTS (SELECT 1 FROM episode_bodies AS moved WHERE moved.id = episodes.id)"
        )
        op.drop_column("episodes", "body")
    there = _indexes()
    for name, indexed in _NEW.items():
        if name not in there:
            op.create_index(name, "episodes", indexed)
    for name in _OLD.keys() & there:
        op.drop_index(name, "episodes")


def downgrade() -> None:
    """Back to the revision before: the scores under other rules are lost."""
    op.add_column("episodes", sa.Column("body", sa.LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")))
    op.execute("UPDATE episodes SET body = (SELECT body FROM episode_bodies WHERE episode_bodies.id = episodes.id)")
    for name, indexed in _OLD.items():
        op.create_index(name, "episodes", indexed)
    for name in _NEW:
        op.drop_index(name, "episodes")
    op.drop_table("episode_bodies")
    op.drop_table("episode_scores")
    op.drop_column("episodes", "body_bytes")


def _columns() -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns("episodes")}


def _indexes() -> set[str]:
    return {str(index["name"]) for index in sa.inspect(op.get_bind()).get_indexes("episodes")}
