from __future__ import annotations

from pathlib import Path

import pytest

from rollout_server.chat import ChatFormat
from rollout_server.tokenizer import HFTokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> HFTokenizer:
    from trainer.tiny_model import save_tiny_model

    return HFTokenizer(save_tiny_model(Path(tmp_path_factory.mktemp("tiny")) / "model"))


@pytest.fixture(scope="session")
def chat(tokenizer: HFTokenizer) -> ChatFormat:
    return ChatFormat(tokenizer)
