"""The lines that every benchmark prints: ``{"name", "value", "unit", "bar", "holds"}``, for a person or as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Figure", "at_least", "at_most", "collected", "memory_bytes", "run", "value"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result. ``holds``: whether the value keeps the bar; both None where there is none."""

    name: str
    value: float
    unit: str
    bar: str | None = None
    holds: bool | None = None


def value(name: str, value: float, unit: str) -> Figure:
    """A figure without a bar."""
    return Figure(name, round(value, 4), unit)


def at_most(name: str, value: float, unit: str, bar: float) -> Figure:
    """A figure that must not be above its bar."""
    return Figure(name, round(value, 4), unit, f"<= {bar:g}", value <= bar)


def at_least(name: str, value: float, unit: str, bar: float) -> Figure:
    """A figure that must not be below its bar."""
    return Figure(name, round(value, 4), unit, f">= {bar:g}", value >= bar)


def memory_bytes(pid: int | str = "self") -> int:
    """A process's resident memory (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def collected(figures: AsyncIterator[Figure]) -> Iterator[Figure]:
    """All figures of an asynchronous benchmark, once it has ended."""

    async def collect() -> list[Figure]:
        return [figure async for figure in figures]

    yield from asyncio.run(collect())


def run(
    description: str,
    measure: Callable[[argparse.Namespace], Iterator[Figure]],
    *,
    options: Callable[[argparse.ArgumentParser], None] = lambda _: None,
) -> None:
    """Read ``--json``, ``--quick`` and the script's own ``options``, print each figure; exit 1 for a missed bar."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="a first figure within a minute")
    options(parser)
    arguments = parser.parse_args()
    missed = False
    for figure in measure(arguments):
        missed |= figure.holds is False
        if arguments.json:
            print(json.dumps(asdict(figure)), flush=True)
        else:
            mark = {True: "holds", False: "MISSED", None: ""}[figure.holds]
            print(f"{figure.name:48} {figure.value:>12,.6g} {figure.unit:5} {figure.bar or '':>10} {mark}", flush=True)
    sys.exit(1 if missed else 0)
