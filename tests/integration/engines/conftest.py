"""The judge and two adapters, shared by the tests of every engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.engine_contract import Reference, make_adapter


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Small models gain nothing from more, and threads that spin lose much where tests share the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reference(smollm2_dir: Path) -> Reference:
    return Reference(smollm2_dir)


@pytest.fixture(scope="session")
def adapters(smollm2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return make_adapter(smollm2_dir, folder / "first", seed=1), make_adapter(smollm2_dir, folder / "second", seed=2)


@pytest.fixture(scope="session")
def vllm_imported() -> None:
    """vLLM 0.31 and torch 2.13 warn of their own deprecations while they are imported: once, here, they may."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import vllm.engine.arg_utils
        import vllm.v1.engine.async_llm  # noqa: F401
