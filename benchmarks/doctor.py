"""Whether ``envloop doctor`` finds every named fault, and how often it cries wolf.

    python benchmarks/doctor.py [--json] [--quick]

The logs are made up by ``_doctor_logs.py`` and ``_doctor_faults.py``: 200 healthy ones and five of each fault, of
varying strength and onset. Their seeds are held out: no threshold was chosen by looking at them. A log is examined as
in training, every ten steps; an alarm is a warning or worse at any of these looks, whether it lasts or not.

``told_after`` is the median share of a run between the fault's onset and the step at which it is told.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

from _doctor_faults import FAULTS, faulty, onset
from _doctor_logs import RECIPES, healthy
from _figures import Figure, at_least, at_most, run, value

from trainer.diagnose.checks import diagnose

_HELD_OUT = 2_000_000


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    count, each = (60, 2) if arguments.quick else (200, 5)
    alarmed = 0
    for n in range(count):
        alarmed += bool(diagnose(healthy(RECIPES[n % len(RECIPES)], _HELD_OUT + n)).problems)
    yield value("doctor.healthy_logs", count, "logs")
    yield at_most("doctor.false_alarms", 100 * alarmed / count, "%", 5)
    delays, missed, others = [], 0, 0
    for name in FAULTS:
        found = 0
        for n in range(each):
            report = diagnose(faulty(name, _HELD_OUT + n))
            told = [f.first_step for f in report.problems if f.check == name]
            found += bool(told)
            others += len({f.check for f in report.problems} - {name})
            if told:
                delays.append(max(0.0, min(told) / report.steps - onset(name, _HELD_OUT + n)))
        missed += each - found
        yield at_least(f"doctor.found.{name}", 100 * found / each, "%", 80)
    yield at_least("doctor.found", 100 - 100 * missed / (each * len(FAULTS)), "%", 98)
    yield value("doctor.other_alarms_a_faulty_log", others / (each * len(FAULTS)), "")
    yield value("doctor.told_after", 100 * statistics.median(delays), "%")


if __name__ == "__main__":
    run(__doc__ or "", measure)
