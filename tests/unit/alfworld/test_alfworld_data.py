"""The data files of the package: what they hold, and that their licences go with them."""

from __future__ import annotations

import json
from importlib import resources

from envs.alfworld.dialect import identify_dialect
from envs.alfworld.households import HELD_OUT_FLOOR_PLANS, load_households
from envs.registry import ALFWORLD

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
    mit = PACKAGE.joinpath("households.NOTICE").read_text(encoding="utf-8")
    assert "MIT License" in mit
    assert "Copyright (c) 2020 Mohit Shridhar and others" in mit
    assert "Permission is hereby granted" in mit
    apache = PACKAGE.joinpath("agentbench_dev.NOTICE").read_text(encoding="utf-8")
    assert "Apache License, Version 2.0" in apache
    assert "AgentBench" in apache


def test_agentbench_dev_has_twenty_games_of_six_types() -> None:
    lists = json.loads(PACKAGE.joinpath("agentbench_dev.json").read_text(encoding="utf-8"))
    paths = [path for found in lists.values() for path in found]
    assert len(lists) == 6
    assert len(set(paths)) == len(paths) == 20
    for path in paths:
        root, split, task, _, name = path.split("/")
        assert (root, split, name) == ("json_2.1.1", "valid_unseen", "game.tw-pddl")
        assert task.partition("-")[0] in ALFWORLD.task_types
