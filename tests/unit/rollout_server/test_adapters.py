"""An adapter folder is judged before an engine sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from adapter_folders import write_adapter

from envs.errors import ConfigError
from rollout_server.engines.adapters import check_adapter


def test_a_good_adapter(tmp_path: Path) -> None:
    info = check_adapter(
        write_adapter(tmp_path / "a", rank_pattern={"q_proj": 16}), max_rank=16, base_model="org/small"
    )
    assert (info.rank, info.base_model, info.target_modules) == (16, "models/Small", ("q_proj", "v_proj"))
    assert info.path.is_absolute()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 32}, "rank 32"),
        ({"rank_pattern": {"q_proj": 64}}, "rank 64"),
        ({"r": "eight"}, "no valid rank"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"base_model_name_or_path": "org/Other"}, "Other"),
    ],
)
def test_what_no_engine_can_serve(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_adapter(write_adapter(tmp_path / "a", **changes), max_rank=16, base_model="small")


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    path = write_adapter(tmp_path / "a")
    (path / missing).unlink()
    with pytest.raises(ConfigError, match=missing):
        check_adapter(path)


def test_a_broken_config_and_a_missing_folder(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a")
    for text in ("{", "[]"):
        (path / "adapter_config.json").write_text(text)
        with pytest.raises(ConfigError, match=r"adapter_config\.json"):
            check_adapter(path)
    with pytest.raises(ConfigError, match="no adapter folder"):
        check_adapter(tmp_path / "nowhere")
