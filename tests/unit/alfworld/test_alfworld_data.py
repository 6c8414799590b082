"""The data files of the package: what they hold, and that their licences go with them."""

from __future__ import annotations

import re
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from envs.alfworld.dialect import identify_dialect
from envs.alfworld.households import HELD_OUT_FLOOR_PLANS, load_households
from envs.alfworld.lists import AGENTBENCH_LISTS, OFFICIAL_SPLITS, official_names
from envs.registry import ALFWORLD
from envs.types import SplitRole

PACKAGE = resources.files("envs.alfworld")


def test_tables_are_complete() -> None:
    tables = load_households()
    assert tuple(tables.tasks) == ALFWORLD.task_types
    assert sorted(tables.rooms) == ["Bathroom", "Bedroom", "Kitchen", "LivingRoom"]
    assert len(tables.floor_plans) == 120
    assert {number for numbers in tables.rooms.values() for number in numbers} == set(tables.floor_plans)
    assert set(tables.floor_plans) >= HELD_OUT_FLOOR_PLANS
    assert not HELD_OUT_FLOOR_PLANS & tables.test_floor_plans
    assert {"Fridge", "Microwave", "Cabinet", "Drawer"} <= tables.openable <= tables.fits_in.keys()
    assert "Mug" in tables.fits_in["CoffeeMachine"]
    assert tables.actions["Toggleable"] == {"DeskLamp", "FloorLamp"}
    assert all(len(task.phrases) >= 2 and "(:goal" in task.goal for task in tables.tasks.values())
    assert identify_dialect(tables.grammar, tables.domain).name == "0.4"


def test_licences_go_with_the_data() -> None:
    for name in ("households", "household_frequencies"):
        mit = PACKAGE.joinpath(f"{name}.NOTICE").read_text(encoding="utf-8")
        assert f"{name}.json" in mit
        assert "MIT License" in mit
        assert "Copyright (c) 2020 Mohit Shridhar and others" in mit
        assert "Permission is hereby granted" in mit
    assert PACKAGE.joinpath("valid_unseen.NOTICE").read_text(encoding="utf-8").endswith(mit[mit.index("MIT License") :])
    apache = PACKAGE.joinpath("agentbench.NOTICE").read_text(encoding="utf-8")
    assert "Apache License, Version 2.0" in apache
    assert all(found.file in apache for found in AGENTBENCH_LISTS.values())


def test_the_official_list_of_valid_unseen_is_complete() -> None:
    names = official_names("valid_unseen")
    assert len(set(names)) == len(names) == OFFICIAL_SPLITS["valid_unseen"].size == 134
    assert list(names) == sorted(names)
    assert Counter(name.partition("-")[0] for name in names).keys() == set(ALFWORLD.task_types)
    assert {int(name.partition("/")[0].rpartition("-")[2]) for name in names} == HELD_OUT_FLOOR_PLANS
    assert official_names("train") == ()


@pytest.mark.parametrize(
    ("name", "size", "by_type", "also_in_dev"),
    [
        ("agentbench_dev", 20, (4, 4, 3, 3, 3, 3), 20),
        ("agentbench_standard", 50, (9, 9, 8, 8, 8, 8), 0),
        ("agentbench_new_std", 109, (9, 5, 27, 29, 18, 21), 12),
        ("agentbench_train_valid", 3150, (728, 581, 368, 468, 191, 814), 0),
    ],
)
def test_agentbench_lists_are_the_published_ones(
    name: str, size: int, by_type: tuple[int, ...], also_in_dev: int
) -> None:
    """The sizes and overlaps are those of AgentBench's repository; its sections keep their order."""
    games = AGENTBENCH_LISTS[name].games()
    assert len({game.name for game in games}) == len(games) == size
    assert tuple(Counter(game.type for game in games).values()) == by_type
    trains = name == "agentbench_train_valid"
    assert AGENTBENCH_LISTS[name].role is (SplitRole.TRAIN if trains else SplitRole.EVALUATION)
    for game in games:
        assert game.split == AGENTBENCH_LISTS[name].base == ("train" if trains else "valid_unseen")
        assert game.type == game.name.partition("-")[0]
        assert re.fullmatch(r"trial_T2019\d{4}_\d{6}_\d{6}", game.name.partition("/")[2])
    dev = {game.name for game in AGENTBENCH_LISTS["agentbench_dev"].games()}
    assert len(dev & {game.name for game in games}) == also_in_dev


def test_agentbench_plays_games_that_alfworld_leaves_out() -> None:
    official = set(official_names("valid_unseen"))
    outside = {
        name: {game.name for game in found.games()} - official
        for name, found in AGENTBENCH_LISTS.items()
        if found.base == "valid_unseen"
    }
    assert {name: len(games) for name, games in outside.items()} == {
        "agentbench_dev": 0,
        "agentbench_standard": 0,
        "agentbench_new_std": 16,
    }


def test_the_shared_list_is_the_one_in_the_package(shared_dir: Path) -> None:
    shared = shared_dir / "data" / "alfworld" / "valid_unseen.txt"
    assert PACKAGE.joinpath("valid_unseen.txt").read_bytes() == shared.read_bytes()
