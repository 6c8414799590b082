"""Every filter finds what it says, several values mean either, and figures are those of the episodes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from episode_samples import sample_episode
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from envs.errors import InvalidOption, UnknownEpisode
from envs.types import EpisodeStatus, Task
from rollout_server.episode_filters import conditions, parse_age, parse_time, read_filters
from rollout_server.episode_store import EpisodeStore, summarize
from rollout_server.episode_table import EpisodeRow

FAILED = EpisodeStatus.INFRASTRUCTURE_ERROR


def task(kind: str, split: str = "generated") -> Task:
    return Task("alfworld", f"{split}/{kind}", split, kind, "cd" * 32)


EPISODES = (
    sample_episode(id="a", started_at="2026-01-01T10:00:00.000+00:00", task=task("heat")),
    sample_episode(id="b", started_at="2026-01-02T10:00:00.500+00:00", task=task("cool"), policy="step-1", reward=0.0),
    sample_episode(id="c", started_at="2026-01-03T00:00:00+00:00", task=task("heat", "dev"), protocol="classic"),
    sample_episode(id="d", started_at="2026-01-04T10:00:00.123456+00:00", engine="vllm", reward=0.5, group_id="g2"),
    sample_episode(id="e", started_at="2026-01-05T10:00:00+00:00", status=FAILED, reward=None, metadata={"run": "x"}),
)


@pytest.fixture(scope="module")
def store():
    with EpisodeStore("sqlite://") as opened:
        opened.add_many(EPISODES)
        yield opened


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"status": ["completed", FAILED]}, "abcde"),
        ({"status": [FAILED]}, "e"),
        ({"status": []}, ""),
        ({"task_type": ("heat", "cool")}, "abc"),
        ({"task_type": "heat", "split": "dev"}, "c"),
        ({"policy": ["step-1", "nobody"]}, "b"),
        ({"protocol": "classic"}, "c"),
        ({"engine": "vllm"}, "d"),
        ({"group_id": ["g1", "g2"], "run": "x"}, "e"),
        ({"max_reward": 0.5}, "bd"),
        ({"min_reward": 0.5, "max_reward": 0.5}, "d"),
        ({"min_reward": "0.1", "max_reward": 0.9}, "d"),
        ({"since": "2026-01-03"}, "cde"),
        ({"until": "2026-01-03"}, "ab"),
        ({"since": "2026-01-02T10:00:00.5", "until": "2026-01-04T10:00:00.123456"}, "bc"),
        ({"since": "2026-01-03T02:00:00+02:00", "until": datetime(2026, 1, 4, tzinfo=UTC)}, "c"),
        ({"since": "7d"}, ""),
        ({"until": "0s"}, "abcde"),
        ({"since": None, "env": None}, "abcde"),
    ],
)
def test_filters(store, filters, expected):
    assert "".join(s.id for s in store.query(**filters, newest_first=False)) == expected
    assert "".join(e.id for e in store.iter_episodes(**filters)) == expected
    assert store.count(**filters) == len(expected)
    assert sum(row.episodes for row in store.stats(["task_type"], **filters)) == len(expected)


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"since": "yesterday"}, "'yesterday' is no time"),
        ({"until": "2026-13-01"}, "is no time"),
        ({"min_reward": "much"}, "min_reward is 'much'"),
        ({"max_reward": float("nan")}, "max_reward is not a number"),
        ({"status": ["completed", "bogus"]}, "no status 'bogus'"),
        ({"colour": "red"}, "no filter colour"),
    ],
)
def test_what_is_no_filter_is_refused(store, filters, said):
    for use in (store.query, store.count, store.stats, lambda **f: list(store.iter_episodes(**f))):
        with pytest.raises(InvalidOption, match=said):
            use(**filters)


def test_filters_as_texts():
    read = read_filters(["policy=step-1", "policy=a=b", "type=heat", "min_reward=1"], also={"env": "alfworld"})
    assert read == {"env": "alfworld", "policy": ["step-1", "a=b"], "task_type": ["heat"], "min_reward": "1"}
    for bad in ("policy", "colour=red", ""):
        with pytest.raises(InvalidOption, match="is no filter"):
            read_filters([bad])


def test_ages():
    assert (parse_age("90s"), parse_age("1.5h"), parse_age("2w")) == (
        timedelta(seconds=90),
        timedelta(minutes=90),
        timedelta(days=14),
    )
    for bad in ("", "d", "-1d", "3 months", "1e9d", "9" * 12 + "w"):
        with pytest.raises(InvalidOption, match=r"no age|too long ago"):
            parse_age(bad)
    assert parse_time("36h", now=datetime(2026, 1, 3, 12, tzinfo=UTC)) == "2026-01-02T00:00:00"


moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(moments, moments, st.sampled_from(["milliseconds", "microseconds", "auto"]), st.integers(-14, 14))
def test_bounds_compare_as_the_times_do(start, bound, form, hours):
    if form == "milliseconds":
        start = start.replace(microsecond=start.microsecond // 1000 * 1000)
    recorded = start.isoformat(timespec=form)
    given_bound = parse_time(bound.astimezone(timezone(timedelta(hours=hours))))
    assert (recorded >= given_bound) == (start >= bound)
    assert recorded >= parse_time(start)


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "started_at_id"),
        ({"env": "alfworld"}, "env_started_at_id"),
        ({"run": "r", "status": "completed", "env": "alfworld"}, "run_started_at_id"),
        ({"policy": "p", "split": "generated"}, "policy_started_at_id"),
        ({"policy": "p", "run": "r", "task_id": "t", "env": "e"}, "task_id_started_at_id"),
        ({"status": FAILED, "split": "generated"}, "status_started_at_id"),
        ({"status": "completed", "task_type": "heat"}, "task_type_started_at_id"),
        ({"group_id": "g", "run": "r"}, "group_id"),
        ({"run": ["r", "s"], "since": "2026-01-01"}, "run_started_at_id"),
    ],
)
def test_a_page_is_read_from_the_index_of_the_rarest_filter(store, filters, index):
    """SQLite without statistics would take any; the wrong one reads nearly every row."""
    statement = select(EpisodeRow.id).where(*conditions(filters))
    statement = statement.order_by(EpisodeRow.started_at.desc(), EpisodeRow.id.desc()).limit(20)
    with store._session() as session:
        text = str(statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True}))
        plan = " ".join(row[3] for row in session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
    assert f"INDEX ix_episodes_{index} " in f"{plan} "
    assert ("TEMP B-TREE" in plan) == (index == "group_id" or isinstance(filters.get("run"), list))


def test_figures_are_those_of_the_episodes(store):
    (all_of_them,) = store.stats()
    assert (all_of_them.episodes, all_of_them.scored, all_of_them.successes, all_of_them.success) == (5, 4, 2, 0.5)
    assert all_of_them.reward == pytest.approx(2.5 / 4)
    assert (all_of_them.turns, all_of_them.tokens, all_of_them.policy_tokens) == (2, 12, 5)
    assert all_of_them.bytes > 5 * 100
    by_policy = {row.key["policy"]: row for row in store.stats(["policy"])}
    assert (by_policy["base"].episodes, by_policy["base"].scored, by_policy["step-1"].success) == (4, 3, 0.0)
    both = [(row.key["task_type"], row.key["split"], row.episodes) for row in store.stats(["task_type", "split"])]
    assert both == sorted(both)
    assert ("heat", "dev", 1) in both
    assert [row.key["day"] for row in store.stats(["day"], status="completed")] == [
        f"2026-01-0{d}" for d in (1, 2, 3, 4)
    ]
    assert [row.episodes for row in store.stats(["run"], run="x")] == [1]
    assert store.stats(["env"], run="nobody's") == []
    (failed,) = store.stats(run="x")
    assert (failed.scored, failed.success, failed.reward, failed.turns) == (0, None, None, None)


def test_a_key_that_is_none_is_refused(store):
    with pytest.raises(InvalidOption, match="no key colour"):
        store.stats(["env", "colour"])


def test_scores_under_other_rules_leave_the_episode_alone():
    with EpisodeStore("sqlite://") as store:
        store.add(sample_episode())
        name = sample_episode().id
        store.add_score(name, "classic", 0.0)
        store.add_score(name, "fc", 1.0)
        store.add_score(name, "classic", 1.0)
        assert store.scores(name) == {"classic": 1.0, "fc": 1.0}
        assert store.get(name) == sample_episode()
        assert store.query() == [summarize(sample_episode())]
        with pytest.raises(UnknownEpisode):
            store.add_score("nobody", "fc", 1.0)
        assert store.scores("nobody") == {}
