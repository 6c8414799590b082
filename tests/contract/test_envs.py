"""Every registered environment keeps the contract, on the tasks that need no download."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from envs.base import EnvFamily
from envs.checker import assert_conforms
from envs.registry import default_registry
from envs.types import EnvSpec


@pytest.fixture(params=list(default_registry()), ids=lambda spec: spec.id)
def family(request: pytest.FixtureRequest) -> Iterator[EnvFamily]:
    spec: EnvSpec = request.param
    made = default_registry().make(spec.id)
    yield made
    made.close()


def test_conforms(family: EnvFamily) -> None:
    report = assert_conforms(family, seed=1)
    assert report.played == report.solved > 0


def test_is_a_family(family: EnvFamily) -> None:
    assert isinstance(family, EnvFamily)
    assert family.spec in list(default_registry())
    family.close()
    family.close()
