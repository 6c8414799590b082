"""How engines are compared, with the native engine on both sides: one of them, where the test says so, tells lies."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from alfworld_games import ALL_TASKS, kitchen

from envs.alfworld.comparison import Difference, Disagreement, first_disagreement
from envs.alfworld.diff import GameReport, compare_games, diff_engines, in_dialect, summarize
from envs.alfworld.engine import GameSource
from envs.alfworld.native_engine import NativeEngine, NativeSession
from envs.alfworld.rules import NOTHING_HAPPENS
from envs.alfworld.walkers import NONSENSE, WALKERS, distortions
from envs.errors import BackendUnavailable, InvalidOption, TaskDataError
from envs.types import Readiness


class LyingSession(NativeSession):
    """The native session, but that one command is answered with other words."""

    lie = ""

    def step(self, command: str) -> tuple[str, bool]:
        text, won = super().step(command)
        return (f"{text} Really." if command == self.lie else text), won


class Double:
    """A reference that lies, refuses or fails on purpose; else it is the native engine."""

    name = "double"

    def __init__(self, *, lie: str = "", refuses: Sequence[str] = (), fails: bool = False) -> None:
        self.lie, self.refuses, self.fails = lie, refuses, fails
        self.opened: list[str] = []
        self.closed = 0

    def open(self, source: GameSource) -> Any:
        if source.path in self.refuses:
            raise TaskDataError(f"{source.path}: not for me")
        self.opened.append(source.path)
        session = LyingSession(NativeEngine().game(source))
        session.lie = self.lie
        session.close = self._count  # type: ignore[method-assign]
        if self.fails:
            session.step = self._fail  # type: ignore[method-assign]
        return session

    def ready(self) -> Readiness:
        return Readiness(ready=True, detail="")

    def close(self) -> None:
        pass

    def _count(self) -> None:
        self.closed += 1

    def _fail(self, command: str) -> tuple[str, bool]:
        raise BackendUnavailable("gone")


def source(number: int, **how: Any) -> GameSource:
    data = kitchen(ALL_TASKS[number], **how)
    return GameSource(f"{number}", f"kitchen{number}", lambda: data)


def broken(name: str) -> GameSource:
    data = kitchen() | {"pddl_problem": "(define"}
    return GameSource(name, name, lambda: data)


def test_equal_engines_do_not_differ_and_everything_is_counted() -> None:
    reference = Double()
    report = diff_engines([source(n) for n in range(3)], reference=reference, steps=30, walkers=tuple(WALKERS))
    assert (report.num_games, report.num_episodes, report.num_steps) == (3, 12, 360)
    assert report.num_wins >= 3
    assert report.num_differences == report.num_refused == 0
    assert report.first is None
    assert reference.closed == 3


def test_a_difference_ends_its_episode_alone() -> None:
    report = diff_engines([source(0), source(1)], reference=Double(lie="look"), steps=60, walkers=["random", "curious"])
    assert report.num_differences == 4
    assert report.num_episodes == 4
    first = report.first
    assert first is not None
    assert (first.game, first.walker, first.what, first.commands[-1]) == ("kitchen0", "random", "text", "look")
    assert first.reference == f"{first.native} Really."
    assert "look" not in first.commands[:-1]
    assert f"-{first.reference}" in first.transcript()
    assert f"+{first.native}" in first.transcript()
    assert "> look" in first.transcript()


def test_without_keep_going_the_first_difference_ends_everything() -> None:
    reference = Double(lie="look")
    report = diff_engines(
        [source(n) for n in range(6)], reference=reference, steps=60, walkers=["random"], keep_going=False
    )
    assert report.num_differences == 1
    assert len(reference.opened) < 6
    assert reference.closed == len(reference.opened)


def test_the_same_seed_plays_the_same() -> None:
    def first(seed: int) -> Difference | None:
        return diff_engines([source(2)], reference=Double(lie="look"), steps=60, seed=seed, walkers=["random"]).first

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_games_are_told_in_their_order_however_many_are_compared_at_a_time() -> None:
    games = [source(n) for n in range(6)]
    reports = [list(compare_games(games, reference=Double(), steps=8, jobs=jobs)) for jobs in (1, 4)]
    assert [report.game for report in reports[0]] == [game.path for game in games]
    assert reports[0] == reports[1]


def test_further_rounds_reach_a_total_with_other_walks() -> None:
    reference = Double(lie="inventory")
    reports = list(compare_games([source(0), broken("b")], reference=reference, steps=10, total_steps=95))
    report = summarize(reports)
    assert 95 <= report.num_steps < 95 + 30
    assert report.num_games == 1
    assert report.num_refused == 1
    assert [one.game for one in reports].count("b") == 1
    assert len({found.seed for one in reports for found in one.differences}) > 1


def test_a_total_that_cannot_be_reached_ends_after_a_round() -> None:
    assert diff_engines([broken("b")], reference=Double(), total_steps=10).num_steps == 0
    assert diff_engines([], reference=Double(), total_steps=10).num_games == 0


def test_a_game_that_the_native_engine_refuses_is_reported_not_fatal() -> None:
    report = diff_engines([broken("b"), source(0)], reference=Double(), steps=5)
    assert report.num_games == 1
    assert report.refused[0][0] == "b"
    assert "unbalanced" in report.refused[0][1]


def test_a_game_that_only_the_reference_refuses_is_a_difference() -> None:
    report = diff_engines([source(0)], reference=Double(refuses=["kitchen0"]), steps=5)
    assert report.num_differences == 1
    assert report.first is not None
    assert report.first.what == "loading"
    assert "not for me" in report.first.transcript()


def test_an_exception_of_the_native_engine_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(session: NativeSession, command: str) -> tuple[str, bool]:
        raise LookupError(command)

    monkeypatch.setattr(NativeSession, "step", fail)
    monkeypatch.setattr(LyingSession, "step", lambda session, command: ("fine", False))
    report = diff_engines([source(0)], reference=Double(), steps=5, walkers=["random"])
    assert report.first is not None
    assert report.first.what == "failure"
    assert report.first.native == f"LookupError({report.first.commands[0]!r})"
    assert report.first.reference == "fine"


def test_a_failing_reference_is_no_difference_and_its_sessions_are_closed() -> None:
    reference = Double(fails=True)
    with pytest.raises(BackendUnavailable, match="gone"):
        diff_engines([source(n) for n in range(6)], reference=reference, steps=5, jobs=2)
    assert reference.closed == len(reference.opened)


def test_wrong_names_are_refused_before_anything_is_played() -> None:
    reference = Double()
    with pytest.raises(InvalidOption, match="walker 'drunk'"):
        compare_games([source(0)], reference=reference, walkers=["expert", "drunk"])
    with pytest.raises(InvalidOption, match="walker ''"):
        compare_games([source(0)], reference=reference, walkers=[])
    with pytest.raises(InvalidOption, match=r"dialect '0\.3'"):
        compare_games([source(0)], reference=reference, dialect="0.3")
    assert reference.opened == []


def test_a_game_is_told_in_another_dialect_and_left_alone_in_its_own() -> None:
    own = source(0)
    assert in_dialect(own, "0.4").load() is own.load()
    told = in_dialect(source(0, dialect="0.4"), "0.2").load()
    assert told["pddl_domain"] == kitchen(ALL_TASKS[0], dialect="0.2")["pddl_domain"]
    assert told["grammar"] == kitchen(ALL_TASKS[0], dialect="0.2")["grammar"]
    unknown = kitchen() | {"grammar": kitchen()["grammar"].replace("You pick up", "You grab")}
    retold = in_dialect(GameSource("u", "u", lambda: unknown), "0.4").load()
    assert retold["grammar"] == kitchen()["grammar"]
    for wrong, why in (
        ({}, "not an ALFWorld game: 'pddl_domain' is missing"),
        (kitchen() | {"grammar": 3}, "not an ALFWorld game: 'grammar' is missing or no text"),
        (kitchen() | {"grammar": "no task"}, r"it cannot be told in dialect 0\.2"),
    ):
        with pytest.raises(TaskDataError, match=f"w: {why}"):
            in_dialect(GameSource("w", "w", lambda wrong=wrong: wrong), "0.2").load()  # type: ignore[misc]


def test_each_view_is_compared() -> None:
    engine = NativeEngine()
    ours, theirs = engine.open(source(0)), engine.open(source(0))
    texts = (ours.reset(), theirs.reset())
    assert first_disagreement(ours, theirs, texts) is None
    assert first_disagreement(ours, theirs, ("a", "b")) == Disagreement("text", "a", "b")
    ours.state.won = True
    assert first_disagreement(ours, theirs, texts) == Disagreement("won", "True", "False")
    ours.state.won = False
    theirs.step("go to countertop 1")
    found = first_disagreement(ours, theirs, texts)
    assert found is not None
    assert found.what == "admissible commands"
    assert "+go to countertop 1" in found.diff().splitlines()


def test_a_diff_shows_what_lines_hide_and_is_bounded() -> None:
    assert Disagreement("text", "same ", "same").diff() == "-same\n+same "
    assert Disagreement("text", "line\n", "line").diff() == "-'line'\n+'line\\n'"
    long = Disagreement("text", "x" * 10_000, "").diff()
    assert len(long) < 2100
    assert long.endswith("(10001 characters)")
    difference = Difference("g", "", 0, ("look\ud800", "x" * 500, "é"), "text", "看", "b")
    transcript = difference.transcript(last=2)
    assert transcript.isascii()
    assert transcript.splitlines()[1] == "  (...)"
    assert "after 3 commands" in transcript
    assert max(map(len, transcript.splitlines())) < 250


def test_reports_survive_json() -> None:
    report = diff_engines([source(0)], reference=Double(lie="look"), steps=60, walkers=["random"])
    assert report.first is not None
    game = GameReport("g", num_steps=3, differences=(dataclasses.replace(report.first, commands=("\ud800", "\x00")),))
    assert GameReport.from_json(json.loads(json.dumps(game.to_json()))) == game


def test_the_adversary_reaches_every_kind_of_trick() -> None:
    """Nonsense, distorted commands that are still accepted, distorted ones that are not, and plain ones."""
    session = NativeEngine().open(source(0))
    rng = random.Random(0)
    played: list[str] = []
    kinds: dict[str, int] = {}
    for _ in range(600):
        admissible = session.admissible()
        command = WALKERS["adversarial"](rng, session, played)
        accepted = session.step(command)[0] != NOTHING_HAPPENS
        assert accepted == (command.strip() in admissible)
        played.append(command)
        kind = "plain" if command in admissible else "accepted" if accepted else "refused"
        kinds[kind] = kinds.get(kind, 0) + 1
        kinds["nonsense"] = kinds.get("nonsense", 0) + (command in NONSENSE.values())
    assert min(kinds.get(kind, 0) for kind in ("plain", "accepted", "refused", "nonsense")) >= 20


def test_the_tables_hold_what_breaks_parsers() -> None:
    texts = [*NONSENSE.values(), *distortions("go to desk 1").values()]
    assert "" in texts
    assert max(map(len, texts)) >= 1 << 20
    for sign in ("\x00", "\n", "\t", "\ud800", "{", "#", "[", "|", "\\", '"'):
        assert any(sign in text for text in texts), sign
    assert any(not text.isascii() and text.isprintable() for text in texts)
    assert distortions("put a in/on b")["in the other dialect"] == "move a to b"
    assert distortions("move a to b")["in the other dialect"] == "put a in/on b"


@pytest.fixture(scope="module")
def benchmark_script(repo_root: Path) -> ModuleType:
    path = repo_root / "benchmarks" / "alfworld_differences.py"
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location("alfworld_differences", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def test_a_benchmark_that_was_cut_goes_on(
    benchmark_script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_script, "TextWorldEngine", lambda **_: Double(lie="look"))
    games = [source(0), source(1), source(2)]
    file = tmp_path / "progress"

    def compare(games: list[GameSource]) -> tuple[Any, int]:
        progress = benchmark_script.Progress("about", file)
        known = len(progress.reports)
        section = benchmark_script.Section("s", "fast", games, 20, total_steps=500 if len(games) == 3 else 0)
        return benchmark_script.compare(section, "0.4", progress, jobs=1, seed=0), known

    short, known = compare(games[:2])
    assert (short.num_games, known) == (2, 0)
    assert short.num_differences > 0
    with file.open("a") as cut:
        cut.write('{"key": "half a li')
    full, known = compare(games)
    assert known == 2
    assert full.num_games == 3
    assert full.num_steps >= 500
    assert compare(games) == (full, len(benchmark_script.Progress("about", file).reports))
    file.unlink()
    assert compare(games)[0] == full
    with pytest.raises(SystemExit, match="other code"):
        benchmark_script.Progress("something else", file)
