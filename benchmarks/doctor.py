"""Whether ``envloop doctor`` finds every named fault, and how often it cries wolf.

    python benchmarks/doctor.py [--json] [--quick]

``real`` logs are those of ``tests/data/doctor``: trainings whose faults were provoked
(``scripts/make_doctor_logs.py``).
``made`` logs are drawn by ``_doctor_logs.py``: 200 healthy ones and five of each fault, of varying strength and
onset. Their
seeds are held out: no threshold was chosen by looking at them. A log is examined as in training, every ten steps; an
alarm is a warning or worse at any of these looks, whether it lasts or not.

``told_after`` is the median share of a run between the fault's onset and the step at which it is told.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

from _doctor_faults import FAULTS, faulty, onset, real_logs
from _doctor_logs import RECIPES, healthy
from _figures import Figure, at_least, at_most, run, value

from trainer.diagnose.checks import diagnose

_HELD_OUT = 2_000_000


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    yield from _real()
    count, each = (60, 2) if arguments.quick else (200, 5)
    alarmed = 0
    for n in range(count):
        alarmed += bool(diagnose(healthy(RECIPES[n % len(RECIPES)], _HELD_OUT + n)).problems)
    yield value("doctor.made.healthy_logs", count, "logs")
    yield at_most("doctor.made.false_alarms", 100 * alarmed / count, "%", 5)
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
        yield at_least(f"doctor.made.found.{name}", 100 * found / each, "%", 80)
    yield at_least("doctor.made.found", 100 - 100 * missed / (each * len(FAULTS)), "%", 98)
    yield value("doctor.made.other_alarms_a_faulty_log", others / (each * len(FAULTS)), "")
    yield value("doctor.made.told_after", 100 * statistics.median(delays), "%")


def _real() -> Iterator[Figure]:
    faults, found, others, healthy_ones, alarmed = 0, 0, 0, 0, 0
    for real in real_logs().values():
        told = {f.check for f in diagnose(real.log).problems}
        if real.label is None:
            healthy_ones += 1
            alarmed += bool(told)
        else:
            faults += 1
            found += real.label in told
            others += len(told - {real.label} - real.also)
    yield value("doctor.real.faulty_logs", faults, "logs")
    yield at_least("doctor.real.found", 100 * found / faults, "%", 100)
    yield at_most("doctor.real.other_alarms", others, "", 0)
    yield value("doctor.real.healthy_logs", healthy_ones, "logs")
    yield at_most("doctor.real.false_alarms", 100 * alarmed / healthy_ones, "%", 5)


if __name__ == "__main__":
    run(__doc__ or "", measure)
