"""Extract envs/alfworld/households.json from the alfworld wheel: what the generator and the native engine need of it.

    pip download alfworld==0.4.2 --no-deps --dest DIR
    python scripts/extract_households.py DIR/alfworld-0.4.2-py3-none-any.whl envs/alfworld

Writes households.json (tables, floor plans, goal phrases, the domain and grammar texts) and households.NOTICE (its MIT
licence). The same wheel always gives the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import zipfile
import zipimport
from pathlib import Path
from types import ModuleType
from typing import Any

VERSION = "0.4.2"
TASK_TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)


def load_module(wheel: Path, name: str) -> ModuleType:
    """One plain module of the wheel's ``alfworld/gen``, without importing the package around it."""
    spec = zipimport.zipimporter(str(wheel / "alfworld" / "gen")).find_spec(name)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{wheel} has no alfworld/gen/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def floor_plan(archive: zipfile.ZipFile, number: int) -> dict[str, Any]:
    """A floor plan: its object classes, and its receptacles with the pose (x, z in m, rotation, horizon in degrees)."""
    stem = f"alfworld/gen/layouts/FloorPlan{number}"
    classes = json.loads(archive.read(f"{stem}-objects.json"))
    poses = json.loads(archive.read(f"{stem}-openable.json"))
    return {"classes": sorted(classes), "receptacles": {name: poses[name] for name in sorted(poses)}}


def extract(wheel: Path) -> tuple[dict[str, Any], str]:
    """The data file's content and the licence text."""
    constants, goals = load_module(wheel, "constants"), load_module(wheel, "goal_library")
    rooms = {name: sorted(numbers) for name, numbers in constants.SCENE_TYPE.items()}
    with zipfile.ZipFile(wheel) as archive:
        plans = {
            str(number): floor_plan(archive, number)
            for numbers in rooms.values()
            for number in numbers
            if f"alfworld/gen/layouts/FloorPlan{number}-openable.json" in archive.namelist()
        }
        domain = archive.read("alfworld/data/alfred.pddl").decode()
        grammar = archive.read("alfworld/data/alfred.twl2").decode()
        licence = archive.read(f"alfworld-{VERSION}.dist-info/LICENSE").decode()
    data = {
        "source": f"alfworld {VERSION} (MIT, see households.NOTICE)",
        "rooms": rooms,
        "test_floor_plans": sorted(constants.TEST_SCENE_NUMBERS),
        "floor_plans": plans,
        "fits_in": {name: sorted(objects) for name, objects in sorted(constants.VAL_RECEPTACLE_OBJECTS.items())},
        "openable": sorted(constants.OPENABLE_CLASS_SET),
        "movable_receptacles": sorted(constants.MOVABLE_RECEPTACLES),
        "actions": {name: sorted(objects) for name, objects in sorted(constants.VAL_ACTION_OBJECTS.items())},
        "tasks": {
            name: {
                "rooms": sorted(constants.GOALS_VALID[name]),
                "phrases": goals.gdict[name]["templates"],
                "goal": goals.gdict[name]["pddl"],
            }
            for name in TASK_TYPES
        },
        "domain": domain,
        "grammar": grammar,
    }
    return data, licence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help=f"alfworld-{VERSION}-py3-none-any.whl")
    parser.add_argument("dest", type=Path, help="folder of the two files, envs/alfworld")
    arguments = parser.parse_args()
    data, licence = extract(arguments.wheel)
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True) + "\n"
    (arguments.dest / "households.json").write_text(text, encoding="utf-8")
    notice = (
        f"households.json is extracted from alfworld {VERSION} (https://github.com/alfworld/alfworld) by\n"
        f"scripts/extract_households.py. It is used under the licence below.\n\n{licence}"
    )
    (arguments.dest / "households.NOTICE").write_text(notice, encoding="utf-8")
    print(f"{arguments.dest / 'households.json'}: {len(text) / 1024:.0f} KiB, {len(data['floor_plans'])} floor plans")


if __name__ == "__main__":
    main()
