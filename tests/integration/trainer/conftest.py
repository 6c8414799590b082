from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trainer_doubles import ScriptedRollouts

from rollout_server.tokenizer import HFTokenizer
from trainer.loops import LoopThread
from trainer.tiny_model import save_tiny_model


def pytest_configure(config: pytest.Config) -> None:
    # torch 2.13 warns about its own use of TorchScript when torch._inductor is first imported.
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread() as running:
        yield running


@pytest.fixture
def rollouts(tiny_model: Path) -> ScriptedRollouts:
    return ScriptedRollouts(HFTokenizer(tiny_model))
