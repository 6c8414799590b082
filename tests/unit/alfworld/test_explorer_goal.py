"""The task's sentence, in alfworld's own templates and in other words."""

from __future__ import annotations

import pytest

from envs.alfworld.explorer_goal import Request, plural, read_request, receptacle_kinds, thing_kinds
from envs.alfworld.households import load_households

TREATMENTS = {
    "pick_clean_then_place_in_recep": "clean",
    "pick_heat_then_place_in_recep": "heat",
    "pick_cool_then_place_in_recep": "cool",
}
KITCHEN = ("cabinet", "countertop", "fridge", "garbagecan", "microwave", "shelf", "sidetable", "sinkbasin")


@pytest.mark.parametrize("task_type", load_households().tasks)
def test_every_template_is_understood_for_every_pair(task_type: str) -> None:
    tables = load_households()
    for receptacle, things in tables.fits_in.items():
        if receptacle in tables.movable_receptacles:
            continue
        for thing in things:
            if thing.endswith("Sliced"):
                continue
            obj, recep = thing.lower(), receptacle.lower()
            for phrase in tables.tasks[task_type].phrases:
                request = read_request(f"{phrase.format(obj=obj, recep=recep, toggle='desklamp')}.")
                assert request is not None
                assert request.wanted in (obj, obj.removesuffix("roll"))
                if task_type == "look_at_obj_in_light":
                    assert (request.destination, request.lamps) == ("", ("desklamp",))
                    continue
                assert (request.destination, request.lamps) == (recep, ())
                assert request.treatment == TREATMENTS.get(task_type, "")
                assert request.count == 1 + (task_type == "pick_two_obj_and_place")


@pytest.mark.parametrize(
    ("sentence", "request_"),
    [
        ("Put two knives into the trash can.", Request("knife", "garbagecan", count=2)),
        ("place a chilled wine bottle on the counter", Request("winebottle", "countertop", "cool")),
        ("put a microwaved potato in the fridge", Request("potato", "fridge", "heat")),
        ("heat the potato in the microwave and put it in the refrigerator", Request("potato", "fridge", "heat")),
        ("wash the mug in the sink, then set it on a shelf", Request("mug", "shelf", "clean")),
        ("Bring the alarm clock to the side table!", Request("alarmclock", "sidetable")),
        ("find one cd and then another cd, and put both in the same cabinet", Request("cd", "cabinet", count=2)),
        ("turn on the desk lamp and examine a watch in its light", Request("watch", lamps=("desklamp",))),
        ("inspect the credit card under a lamp", Request("creditcard", lamps=("desklamp", "floorlamp"))),
        ("read the book by the floor lamp", Request("book", lamps=("floorlamp",))),
        ("put the teddy bear on the bed", Request("teddybear", "bed")),
        ("on the arm chair, put a pillow", Request("pillow", "armchair")),
        ("put the toilet paper in the cabinet", Request("toiletpaper", "cabinet")),
    ],
)
def test_other_words_are_understood(sentence: str, request_: Request) -> None:
    assert read_request(sentence, KITCHEN) == request_


@pytest.mark.parametrize("sentence", ["", "dance.", "put it there", "put a mug somewhere nice", "\x00\ud800"])
def test_what_is_not_understood_is_none(sentence: str) -> None:
    assert read_request(sentence, KITCHEN) is None


def test_kinds_and_plurals() -> None:
    assert {"mug", "desklamp", "toiletpaper"} <= thing_kinds()
    assert {"fridge", "countertop"} <= receptacle_kinds()
    assert "mug" not in receptacle_kinds(), "it holds things, but does not stand in a room's list"
    assert [plural(word) for word in ("knife", "shelf", "box", "watch", "potato", "cd")] == [
        "knives", "shelves", "boxes", "watches", "potatoes", "cds"]  # fmt: skip
