"""TextWorld for the tests of this folder: started once, since its imports take seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from envs.alfworld.textworld_engine import FAST_WORKER, TextWorldEngine


@pytest.fixture(scope="session")
def fast() -> Iterator[TextWorldEngine]:
    """The judge of most comparisons: stock TextWorld's answers, twenty times sooner."""
    engine = TextWorldEngine(max_workers=2, command=FAST_WORKER, with_facts=True)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def stock() -> Iterator[TextWorldEngine]:
    """Unpatched, as users run it."""
    engine = TextWorldEngine(max_workers=1, with_facts=True)
    yield engine
    engine.close()
