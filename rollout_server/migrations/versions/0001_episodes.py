"""The table of episodes.

Revision: 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGBLOB, VARCHAR

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(length: int) -> sa.String:
    exact = VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(exact, "mysql", "mariadb")


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "episodes",
        sa.Column("id", _text(64), nullable=False),
        sa.Column("group_id", _text(64), nullable=False),
        sa.Column("env", _text(64), nullable=False),
        sa.Column("task_id", _text(255), nullable=False),
        sa.Column("task_type", _text(128), nullable=False),
        sa.Column("split", _text(128), nullable=False),
        sa.Column("protocol", _text(64), nullable=False),
        sa.Column("engine", _text(64), nullable=False),
        sa.Column("model", _text(255), nullable=False),
        sa.Column("policy", _text(128), nullable=False),
        sa.Column("status", _text(32), nullable=False),
        sa.Column("reward", sa.Double(), nullable=True),
        sa.Column("training_reward", sa.Double(), nullable=True),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("policy_tokens", sa.Integer(), nullable=False),
        sa.Column("seed", _text(32), nullable=False),
        sa.Column("started_at", _text(40), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("run", _text(128), nullable=False),
        sa.Column("body", sa.LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_episodes"),
    )
    op.create_index("ix_episodes_started_at_id", "episodes", ["started_at", "id"])
    op.create_index("ix_episodes_env_task_id", "episodes", ["env", "task_id"])
    op.create_index("ix_episodes_run", "episodes", ["run"])
    op.create_index("ix_episodes_policy", "episodes", ["policy"])
    op.create_index("ix_episodes_group_id", "episodes", ["group_id"])


def downgrade() -> None:
    """Back from this revision: every episode is lost."""
    op.drop_table("episodes")
