"""What is remembered of every kind of answer, in both dialects."""

from __future__ import annotations

import pytest

from envs.alfworld.explorer_memory import Memory, is_a, kind_of, room_and_task

ROOM = "Looking quickly around you, you see a drawer 2, a drawer 1, a desk 1, and a shelf 1."


@pytest.fixture
def memory() -> Memory:
    made = Memory()
    assert made.read_room(ROOM)
    return made


def test_the_room_and_the_task_are_told_apart() -> None:
    room, task = room_and_task(
        f"-= Welcome! =-\n\n{ROOM}\n\nYour task is to: put a mug in desk.\n AVAILABLE ACTIONS: look"
    )
    assert task == "put a mug in desk."
    assert "task" not in room
    assert room_and_task("nothing else") == ("nothing else", "")
    assert (kind_of("soapbar 12"), kind_of("x")) == ("soapbar", "x")
    assert is_a("toiletpaperroll 1", "toiletpaper")
    assert not is_a("mug 1", "cup")


def test_lists_are_read_whatever_their_length(memory: Memory) -> None:
    assert list(memory.spots) == ["drawer 2", "drawer 1", "desk 1", "shelf 1"]
    for listing, things in (
        ("nothing", []),
        ("a cd 1", ["cd 1"]),
        ("a cd 1, and a mug 12", ["cd 1", "mug 12"]),
        ("a cd 1, a pen 2, and a mug 12", ["cd 1", "pen 2", "mug 12"]),
    ):
        memory.observe("go to desk 1", f"You arrive at desk 1. On the desk 1, you see {listing}.")
        assert memory.spots["desk 1"].contents == things


def test_opening_and_closing(memory: Memory) -> None:
    drawer = memory.spots["drawer 1"]
    memory.observe("go to drawer 1", "You arrive at loc 4. The drawer 1 is closed.")
    assert (drawer.open, drawer.contents, drawer.place) == (False, None, "loc 4")
    memory.observe("open drawer 1", "You open the drawer 1. The drawer 1 is open. In it, you see a pen 1.")
    assert (drawer.open, drawer.contents) == (True, ["pen 1"])
    memory.observe("close drawer 1", "You close the drawer 1.")
    assert drawer.open is False
    memory.observe("open drawer 1", "Nothing happens.")
    assert (memory.failed, drawer.open) == (True, True)


@pytest.mark.parametrize(
    ("answer", "moves"),
    [("You put the pen 1 in/on the shelf 1.", False), ("You move the pen 1 to the shelf 1.", True)],
)
def test_what_is_taken_and_put(memory: Memory, answer: str, moves: bool) -> None:
    memory.observe("go to desk 1", "You arrive at desk 1. On the desk 1, you see a pen 1, and a cd 1.")
    memory.observe("take pen 1 from desk 1", "You pick up the pen 1 from the desk 1.")
    assert (memory.held, memory.spots["desk 1"].contents) == (["pen 1"], ["cd 1"])
    memory.observe("put it", answer)
    assert (memory.held, memory.spots["shelf 1"].contents, memory.moves) == ([], ["pen 1"], moves)


def test_a_thing_in_two_receptacles_is_not_seen_while_it_is_held(memory: Memory) -> None:
    memory.observe("look", "On the desk 1, you see a pan 1. On the shelf 1, you see a pan 1.")
    memory.observe("take pan 1 from desk 1", "You pick up the pan 1 from the desk 1.")
    assert memory.spots["shelf 1"].contents == ["pan 1"]
    assert memory.seen_things() == []


def test_an_inventory_says_what_is_held(memory: Memory) -> None:
    memory.observe("inventory", "You are carrying: a mug 3.")
    assert memory.held == ["mug 3"]
    memory.observe("inventory", "You are not carrying anything.")
    assert memory.held == []


def test_heat_and_cold_take_turns(memory: Memory) -> None:
    memory.observe("heat", "You heat the egg 1 using the microwave 1.")
    memory.observe("clean", "You clean the egg 1 using the sinkbasin 1.")
    assert memory.treated == {"clean": {"egg 1"}, "heat": {"egg 1"}, "cool": set()}
    memory.observe("cool", "You cool the egg 1 using the fridge 1.")
    assert memory.treated == {"clean": {"egg 1"}, "heat": set(), "cool": {"egg 1"}}
    memory.observe("use", "You turn on the desklamp 2.")
    assert memory.lit == {"desklamp 2"}


def test_places_are_known_by_number_in_the_older_dialect(memory: Memory) -> None:
    """Two receptacles that were visited one by one turn out to share a place."""
    memory.observe("go to drawer 1", "You arrive at loc 4. The drawer 1 is closed.")
    memory.observe("go to desk 1", "You arrive at loc 9. On the desk 1, you see nothing.")
    memory.observe("go to drawer 2", "You arrive at loc 4. The drawer 2 is closed.")
    assert memory.here(memory.spots["drawer 1"])
    assert not memory.here(memory.spots["desk 1"])
    assert memory.moves is False


def test_places_are_found_out_in_the_newer_dialect(memory: Memory) -> None:
    memory.observe("go to drawer 1", "You arrive at drawer 1. The drawer 1 is closed.")
    assert memory.moves is True
    memory.observe("look", "You are facing the drawer 1, and drawer 2. Next to it, you see nothing.")
    assert memory.here(memory.spots["drawer 2"])
    memory.observe("go to desk 1", "You arrive at desk 1. On the desk 1, you see nothing.")
    assert not memory.here(memory.spots["drawer 2"])
    memory.observe("go to shelf 1", "Nothing happens.")
    assert memory.here(memory.spots["shelf 1"]), "nobody can go where one is"
    memory.observe("examine shelf 1", "Nothing happens.")
    assert not memory.here(memory.spots["shelf 1"]), "and nobody can look at what is elsewhere"


def test_commands_tell_what_is_near_and_whether_it_is_open(memory: Memory) -> None:
    memory.observe("go to drawer 1", "You arrive at drawer 1. The drawer 1 is closed.", (
        "close drawer 2", "examine drawer 1", "examine pen 1", "go to safe 1", "inventory", "open drawer 1",
        "take cd 1 from shelf 1"))  # fmt: skip
    near = [name for name, spot in memory.spots.items() if memory.here(spot)]
    assert near == ["drawer 2", "drawer 1", "shelf 1"]
    assert (memory.spots["drawer 2"].open, memory.spots["drawer 1"].open) == (True, False)
    assert "safe 1" in memory.spots
    assert "pen 1" not in memory.spots


def test_numbers_beyond_reading_are_no_names(memory: Memory) -> None:
    memory.observe("look", f"On the desk {'7' * 5000}, you see a mug {'8' * 5000}, a pen {'9' * 9}, and a pen 2.")
    memory.observe("look", f"On the desk 3, you see a mug {'8' * 5000}, a pen {'9' * 9}, and a pen 2.")
    assert [thing for thing, _ in memory.seen_things()] == [f"pen {'9' * 9}", "pen 2"]
    assert [spot.number for spot in memory.spots.values() if spot.kind == "desk"][-1] == 3
