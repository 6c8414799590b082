from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.alfworld.difficulty import measure
from envs.alfworld.explorer_goal import read_request
from envs.alfworld.game import Game, parse_game
from envs.alfworld.generator import DIFFICULTIES, Rooms, generate
from envs.alfworld.generator_options import Bounds, Difficulty, Phrasing, find_difficulty, parse_bounds
from envs.alfworld.households import HELD_OUT_FLOOR_PLANS, load_households
from envs.alfworld.packed import pack_game
from envs.alfworld.pddl import parse_problem
from envs.alfworld.phrasing import GoalWords, phrases, tell_goal
from envs.alfworld.problem_writer import read_written_problem
from envs.alfworld.text import introduction
from envs.draws import Draws, Weighted
from envs.errors import InvalidOption, UnknownTaskType
from envs.registry import ALFWORLD

EASY, HARD = DIFFICULTIES["easy"], DIFFICULTIES["hard"]

# Raise GENERATOR_VERSION when these change: recorded episodes name the games by seed.
GOLDEN: list[tuple[int, dict[str, Any], str]] = [
    (0, {}, "3ead4f68e88db87af64bf317947d6ff3d7447ceb345346e577355b4c1f5ef98f"),
    (1, {}, "36f6ad381c306d1e37ff9561bc9198b2fd0a6e89b0308518d95a5af3712514e0"),
    (2, {}, "f3c971795e526a781d6b0ecdb622265278390dcff9d23a92301c77ee56f34458"),
    (3, {}, "18b5582a0965dbcfe56069fa375740a73897748a093c6e5b6590a9669b99eb07"),
    (4, {}, "ea5190d66899b5912aba559e164af0091365e2c1fd80b7dd3cc7358816b7c640"),
    (5, {}, "4abb0412ea863c11865bfca2f5730a131aee9e60f2e3abb296dd576ba1e05153"),
    (7, {"difficulty": "very_easy"}, "5d765a78e3c8b825b2f0af7121937d614608a4d8c263f4d558fec668f819cff7"),
    (7, {"difficulty": "easy"}, "26278d29e969d7b02ec0ee6819c72ea6b8e96894319c8e831b13eab5754a03d6"),
    (7, {"difficulty": "hard"}, "1527d991d4d1b64cad25dfef173758373d0fb30a77c878ac18444178c215cf33"),
    (
        7,
        {"difficulty": "easy", "rooms": "evaluation"},
        "8daddf1ab97ab6f79a0ae6c93871c65319475c7911fa5ab15155d5beafc3b486",
    ),
    ((1 << 31) + 5, {"rooms": "evaluation"}, "0e3fded18ca18576152f9e2b69cf0042520b266ae94ab95d654137bdc3cca0ce"),
    (8, {"rooms": "all", "phrasing": "varied"}, "5c73f752597d0279a45e20fc8750a638c66222ebe64d8337f911aa93b75a55fb"),
    (
        9,
        {"rooms": "all", "floor_plan": 10, "type": "pick_heat_then_place_in_recep"},
        "ae989b7ceb62b94bb509a43048ae159bced776dd1d94bb8e6bd16bbe8677783e",
    ),
]


@pytest.mark.parametrize(("seed", "how", "content_hash"), GOLDEN)
def test_a_seed_keeps_its_game(seed: int, how: dict[str, Any], content_hash: str) -> None:
    assert generate(seed, **how).content_hash == content_hash


def test_a_seed_gives_the_same_bytes_in_every_process(repo_root: Path) -> None:
    code = "from envs.alfworld.generator import generate; print([generate(s).content_hash for s in range(6)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repo_root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(repo_root)},
        ).stdout
        for seed in ("0", "12345")
    }  # fmt: skip
    assert outputs == {f"{[generate(seed).content_hash for seed in range(6)]}\n"}


def test_draws_are_made_from_the_one_function_that_python_keeps() -> None:
    draws = Draws("a name")
    assert [draws.below(1000) for _ in range(4)] == [139, 4, 375, 594]
    assert [draws.between(-3, 3) for _ in range(4)] == [3, 2, 1, 2]
    assert draws.sample("abcdefgh", 5) == ["d", "a", "h", "b", "c"]
    assert draws.sample("ab", 5) in (["a", "b"], ["b", "a"])
    counts = Counter(draws.weighted(Weighted(["never", "once", "thrice"], [0, 1, 3])) for _ in range(4000))
    assert set(counts) == {"once", "thrice"}
    assert 850 < counts["once"] < 1150  # 1000 in the mean, with a standard deviation of 27


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("rooms", Rooms)
def test_games_differ_and_are_won_by_their_own_walkthrough(difficulty: str, rooms: Rooms) -> None:
    games = [generate(seed, difficulty=difficulty, rooms=rooms) for seed in range(24)]
    assert len({game.content_hash for game in games}) == len(games)
    assert Counter(game.type for game in games) == dict.fromkeys(ALFWORLD.task_types, 4)
    for game in games:
        if rooms is not Rooms.ALL:
            assert game.floor_plan not in HELD_OUT_FLOOR_PLANS
            assert (game.floor_plan in load_households().test_floor_plans) == (rooms is Rooms.EVALUATION)
        state = parse_game(game.data).start()
        assert not state.won
        results = [state.step(command) for command in game.data["walkthrough"]]
        assert "Nothing happens." not in [text for text, _ in results]
        assert [won for _, won in results] == [False] * (len(results) - 1) + [True]


def test_the_rooms_of_valid_unseen_are_used_where_they_are_asked_for_and_nowhere_else() -> None:
    drawn = {generate(seed, difficulty="very_easy", rooms=Rooms.ALL).floor_plan for seed in range(150)}
    assert drawn & HELD_OUT_FLOOR_PLANS
    assert generate(0, rooms=Rooms.ALL, floor_plan=10).floor_plan == 10
    for rooms in (Rooms.TRAIN, Rooms.EVALUATION):
        with pytest.raises(InvalidOption, match="floor plan 10 is none of the rooms"):
            generate(0, rooms=rooms, floor_plan=10)
    with pytest.raises(InvalidOption, match="is not played in floor plan 410"):
        generate(0, type="look_at_obj_in_light", rooms=Rooms.ALL, floor_plan=410)


@pytest.mark.parametrize("difficulty", ["normal", "easy"])
def test_a_game_built_from_its_own_text_is_the_parsed_one(difficulty: str) -> None:
    """``build`` and ``to_bytes`` take short cuts; they must end where the long way ends."""
    for seed in range(30):
        game = generate(seed, difficulty=difficulty, phrasing="varied")
        problem = read_written_problem(game.problem)
        assert problem == parse_problem(game.problem)
        assert list(problem.types) == list(parse_problem(game.problem).types)
        built, parsed = game.build(), parse_game(game.data)
        assert pack_game(built) == pack_game(parsed)
        assert introduction(built.start()) == introduction(parsed.start())
        assert built.start().hash() == parsed.start().hash()
        assert built.start().admissible() == parsed.start().admissible()
        assert game.to_bytes() == json.dumps(game.data, indent=1).encode()
        assert game.searched == measure(parsed).receptacles_to_search
        assert len(game.walkthrough) == measure(parsed).plan_length


def objects_in_receptacles(game: Game) -> int:
    return sum(bool(game.initial.places_of(thing)) for thing in game.object_types)


def targets(game: Game, name: str) -> set[str]:
    return set(game.objects_of_type(f"{name.lower()}type"))


@pytest.mark.parametrize(
    ("changes", "measured"),
    [
        ({"receptacles": (4, 6)}, lambda game, _: len(game.receptacles)),
        ({"receptacles": (30, None)}, lambda game, _: len(game.receptacles)),
        ({"objects": (5, 7)}, lambda game, name: len(game.object_types.keys() - targets(game, name)) - _lamps(game)),
        ({"objects": (50, 60)}, lambda game, name: len(game.object_types.keys() - targets(game, name)) - _lamps(game)),
        ({"classes": (2, 2)}, lambda game, name: len(set(game.object_types.values())) - 1 - _lamps(game)),
        ({"targets": (3, 3)}, lambda game, name: len(targets(game, name))),
        ({"plan_length": (7, 9)}, lambda game, _: measure(game).plan_length),
        ({"searched": (10, 12)}, lambda game, _: measure(game).receptacles_to_search),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_made(changes: dict[str, Bounds], measured: Any) -> None:
    """Each control alone; without it some of the same seeds would fall outside its bounds."""
    ((_, (low, high)),) = changes.items()
    wished, plain = replace(DIFFICULTIES["normal"], **changes), []
    for seed in range(12):
        if changes.keys() == {"plan_length"} and seed % 6 < 2:
            continue  # no shortest way to put something down, or to look at it, is as long
        game = generate(seed, difficulty=wished)
        number = measured(game.build(), game.traj["pddl_params"]["object_target"])
        assert low <= number <= (high or number)
        other = generate(seed)
        plain.append(measured(other.build(), other.traj["pddl_params"]["object_target"]))
    assert any(not low <= number <= (high or number) for number in plain)


def _lamps(game: Game) -> int:
    """1 in a game that is about a lamp."""
    return int(len(game.goal.blocks) > 1)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_wanted_objects_lie_where_the_rules_put_them_and_never_where_they_belong(difficulty: str) -> None:
    for seed in range(30):
        made = generate(seed, difficulty=difficulty)
        game, words = made.build(), made.traj["pddl_params"]
        belongs = game.receptacles_of_type(f"{words['parent_target'].lower()}type")
        assert bool(belongs) == (made.type != "look_at_obj_in_light")
        for thing in targets(game, words["object_target"]):
            places = game.initial.places_of(thing)
            assert not belongs & set(places)
            assert places[0] in game.fits_in[thing]


def test_small_rooms_are_small_and_hold_what_can_be_reached() -> None:
    for difficulty, (fewest, most), most_objects in (("very_easy", (4, 5), 5), ("easy", (4, 8), 9)):
        for seed in range(60):
            game = generate(seed, difficulty=difficulty).build()
            assert fewest <= len(game.receptacles) <= most
            assert len(game.object_types) <= most_objects
            assert objects_in_receptacles(game) == len(game.object_types)


def test_hard_games_hide_few_objects_in_large_rooms() -> None:
    for seed in range(24):
        made = generate(seed, difficulty="hard")
        game = made.build()
        wanted = targets(game, made.traj["pddl_params"]["object_target"])
        assert len(wanted) == (2 if made.type == "pick_two_obj_and_place" else 1)
        assert all(game.initial.places_of(thing)[0] in game.openable for thing in wanted)
        assert len(game.receptacles) >= 18


def test_presets_keep_their_order() -> None:
    """From very easy to hard there is more to search and a longer way, in the mean."""
    means = []
    for name in DIFFICULTIES:
        games = [generate(seed, difficulty=name) for seed in range(36)]
        means.append((sum(game.searched for game in games) / 36, sum(len(game.walkthrough) for game in games) / 36))
    assert list(DIFFICULTIES) == ["very_easy", "easy", "normal", "hard"]
    assert [searched for searched, _ in means] == sorted(searched for searched, _ in means)
    assert means[3][1] > means[2][1]


def test_names_say_what_was_asked_for() -> None:
    assert EASY.label == "easy"
    assert replace(EASY, plan_length=(3, 5), receptacles=(4, None)).label == "easy_receptacles_from4_plan_length_3to5"
    assert replace(EASY, name="mine").label == "mine_receptacles_4to8_classes_3to6_copies_1_targets_1to1"
    wishes = replace(EASY, objects=(2, 4))
    game = generate(3, difficulty=wishes)
    assert game.traj["task_id"] == "generated_train_easy_objects_2to4_pick_heat_then_place_in_recep_3"
    assert generate(3, difficulty=EASY).content_hash == generate(3, difficulty="easy").content_hash


@pytest.mark.parametrize("task_type", ALFWORLD.task_types)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_type_asked_for_is_made(task_type: str, difficulty: str) -> None:
    game = generate(3, type=task_type, difficulty=difficulty)
    assert game.type == game.traj["task_type"] == task_type


def test_wrong_wishes_are_refused() -> None:
    with pytest.raises(UnknownTaskType, match="juggle"):
        generate(0, type="juggle")
    for wrong in ({"difficulty": "absurd"}, {"rooms": "attic"}, {"phrasing": "rude"}):
        with pytest.raises(InvalidOption, match=next(iter(wrong.values()))):
            generate(0, **wrong)
    for bounds in ({"receptacles": (8, 4)}, {"targets": (0, 1)}, {"copies": ()}, {"searched": (-1, None)}):
        with pytest.raises(InvalidOption):
            Difficulty(**bounds)
    with pytest.raises(InvalidOption, match="no household is as") as refusal:
        generate(0, type="pick_and_place_simple", difficulty=replace(EASY, receptacles=(2, 2), searched=(9, 9)))
    assert "wider bounds" in refusal.value.hint


def test_ranges_are_read() -> None:
    assert (parse_bounds("4:8"), parse_bounds("4:"), parse_bounds("4")) == ((4, 8), (4, None), (4, 4))
    for text in ("", ":", ":4", "4-8", "four", "4:8:9", "-1:4", "99999"):
        with pytest.raises(InvalidOption, match="is no range"):
            parse_bounds(text)
    assert find_difficulty("hard") is HARD


# Phrasing


@pytest.mark.parametrize("task_type", ALFWORLD.task_types)
def test_every_sentence_asks_for_exactly_the_task(task_type: str) -> None:
    """Read back by the explorer's reader, which knows nothing of the templates."""
    lamp = task_type == "look_at_obj_in_light"
    treatment = {"pick_clean": "clean", "pick_heat_": "heat", "pick_cool_": "cool"}.get(task_type[:10], "")
    assert len(phrases(task_type)) == 2
    assert len(set(phrases(task_type, Phrasing.VARIED))) >= 7
    for obj, recep in (("Apple", "Drawer"), ("ToiletPaper", "Toilet"), ("Mug", "CoffeeMachine"), ("Bowl", "ArmChair")):
        for only in (True, False):
            words = GoalWords(obj, "" if lamp else recep, "DeskLamp" if lamp else "", only_place=only, only_lamp=only)
            told = {tell_goal(Draws(f"{n}"), task_type, words, Phrasing.VARIED) for n in range(100)}
            assert len(told) == len(phrases(task_type, Phrasing.VARIED))
            for sentence in told:
                assert sentence.endswith(".")
                assert not set(sentence) & set("{}#|[]\"';:\\")
                request = read_request(sentence, [recep.lower()])
                assert request is not None, sentence
                assert request.wanted == obj.lower(), sentence
                assert request.destination == ("" if lamp else recep.lower()), sentence
                assert request.lamps == (("desklamp",) if lamp else ()), sentence
                assert request.treatment == treatment, sentence
                assert request.count == (2 if task_type == "pick_two_obj_and_place" else 1), sentence


def test_phrasing_changes_the_sentence_and_nothing_else() -> None:
    official, varied = ([generate(seed, phrasing=phrasing) for seed in range(30)] for phrasing in Phrasing)
    assert [game.problem for game in official] == [game.problem for game in varied]
    assert [game.walkthrough for game in official] == [game.walkthrough for game in varied]
    assert sum(a.goal != b.goal for a, b in zip(official, varied, strict=True)) > 15
    for a, b in zip(official, varied, strict=True):
        assert a.traj["task_id"] != b.traj["task_id"]
        assert parse_game(b.data).goal_text == b.goal


def test_sentences_are_natural() -> None:
    def varied(obj: str, recep: str, *, only_place: bool) -> set[str]:
        words = GoalWords(obj, recep, only_place=only_place)
        names = (f"{number}" for number in range(100))
        return {tell_goal(Draws(name), "pick_two_obj_and_place", words, Phrasing.VARIED) for name in names}

    assert "see to it that two egg objects end up in the fridge." in varied("Egg", "Fridge", only_place=True)
    assert "see to it that two egg objects end up on the same shelf." in varied("Egg", "Shelf", only_place=False)
    sentences = {generate(seed, difficulty="very_easy", phrasing="varied").goal for seed in range(150)}
    assert any(" an apple" in text for text in sentences)
    assert not [text for text in sentences if " a apple" in text or " a egg" in text or " an mug" in text]
