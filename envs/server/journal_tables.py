"""The journal's tables. Episodes are forgotten some time after their end, so that no migration is needed."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    update,
)
from sqlalchemy.dialects.mysql import LONGBLOB, VARCHAR

__all__ = ["ADVANCE", "EPISODES", "META", "METADATA", "STEPS", "TABLES_VERSION"]

TABLES_VERSION = "1"


def _text(length: int) -> String:
    """Compared by its bytes, on MySQL too."""
    exact = VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")


def _bytes() -> LargeBinary:
    return LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")


METADATA = MetaData()
META = Table(
    "envloop_journal",
    METADATA,
    Column("name", _text(64), primary_key=True),
    Column("value", _text(64), nullable=False),
)
EPISODES = Table(
    "envloop_journal_episodes",
    METADATA,
    Column("id", _text(64), primary_key=True),
    Column("key", _text(255), unique=True, nullable=True),
    Column("asked", _text(64), nullable=False),
    Column("env", _text(128), nullable=False),
    Column("task_id", _text(512), nullable=False),
    Column("content_hash", _text(128), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("options", _bytes(), nullable=False),
    Column("origin", _text(64), nullable=True),
    Column("origin_step", Integer, nullable=False),
    Column("first_digest", BigInteger, nullable=False),
    Column("status", _text(32), nullable=False),
    Column("steps", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("failure", _bytes(), nullable=True),
    Column("final", _bytes(), nullable=True),
    Column("created_at", Double, nullable=False),
    Column("touched_at", Double, nullable=False),
    # Neither holds what a step changes: an index on touched_at would be written with every one of them.
    Index("ix_envloop_journal_status", "status"),
    Index("ix_envloop_journal_created", "created_at"),
)
STEPS = Table(
    "envloop_journal_steps",
    METADATA,
    Column("episode_id", _text(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", BigInteger, nullable=False),
    Column("action", _bytes(), nullable=False),
)

# The lock of an episode: of two servers that take the same step, one finds nothing to change.
ADVANCE = (
    update(EPISODES)
    .where(
        EPISODES.c.id == bindparam("b_id"),
        EPISODES.c.status == "running",
        EPISODES.c.steps == bindparam("b_number"),
    )
    .values(steps=bindparam("b_next"), touched_at=bindparam("b_at"))
)
