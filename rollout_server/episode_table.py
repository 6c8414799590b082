"""The store's tables: what finds an episode, its whole record, and what other rules made of it.

The record lies in a table of its own: whoever lists, counts or groups episodes reads no page of it.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, Index, Integer, LargeBinary, MetaData, String
from sqlalchemy.dialects.mysql import LONGBLOB, VARCHAR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Base", "BodyRow", "EpisodeRow", "ScoreRow", "body_type", "text_type"]


def text_type(length: int) -> String:
    """A short text that compares by its bytes, on MySQL too (whose default ignores case and trailing accents)."""
    exact = VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")


def body_type() -> LargeBinary:
    """Bytes up to 4 GiB (MySQL's plain BLOB ends at 64 KiB)."""
    return LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")


class Base(DeclarativeBase):
    """The store's tables."""

    metadata = MetaData(
        naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"},
    )


class EpisodeRow(Base):
    """What a stored episode is found by, and its counts. ``body_bytes``: the size of its record as stored.

    An index per usual filter ends with the order of listings, so that a page of it needs no sorting.
    """

    __tablename__ = "episodes"
    __table_args__ = (
        Index(None, "started_at", "id"),
        Index(None, "env", "started_at", "id"),
        Index(None, "task_id", "started_at", "id"),
        Index(None, "run", "started_at", "id"),
        Index(None, "policy", "started_at", "id"),
        Index(None, "status", "started_at", "id"),
        Index(None, "split", "started_at", "id"),
        Index(None, "task_type", "started_at", "id"),
        Index(None, "group_id"),
    )

    id: Mapped[str] = mapped_column(text_type(64), primary_key=True)
    group_id: Mapped[str] = mapped_column(text_type(64))
    env: Mapped[str] = mapped_column(text_type(64))
    task_id: Mapped[str] = mapped_column(text_type(255))
    task_type: Mapped[str] = mapped_column(text_type(128))
    split: Mapped[str] = mapped_column(text_type(128))
    protocol: Mapped[str] = mapped_column(text_type(64))
    engine: Mapped[str] = mapped_column(text_type(64))
    model: Mapped[str] = mapped_column(text_type(255))
    policy: Mapped[str] = mapped_column(text_type(128))
    status: Mapped[str] = mapped_column(text_type(32))
    reward: Mapped[float | None] = mapped_column(Double)
    training_reward: Mapped[float | None] = mapped_column(Double)
    turns: Mapped[int] = mapped_column(Integer)
    steps: Mapped[int] = mapped_column(Integer)
    tokens: Mapped[int] = mapped_column(Integer)
    policy_tokens: Mapped[int] = mapped_column(Integer)
    seed: Mapped[str] = mapped_column(text_type(32))
    started_at: Mapped[str] = mapped_column(text_type(40))
    duration_s: Mapped[float] = mapped_column(Double)
    run: Mapped[str] = mapped_column(text_type(128))
    body_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class BodyRow(Base):
    """An episode's record: its JSON (``rollout_server.serialize``), UTF-8, zlib-compressed."""

    __tablename__ = "episode_bodies"

    id: Mapped[str] = mapped_column(text_type(64), primary_key=True)
    body: Mapped[bytes] = mapped_column(body_type())


class ScoreRow(Base):
    """What an episode's reward is under other rules than those it was played by. The episode itself stays as it is."""

    __tablename__ = "episode_scores"

    episode_id: Mapped[str] = mapped_column(text_type(64), primary_key=True)
    rules: Mapped[str] = mapped_column(text_type(64), primary_key=True)
    reward: Mapped[float] = mapped_column(Double)
    scored_at: Mapped[str] = mapped_column(text_type(40))
