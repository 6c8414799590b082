"""What a notebook says to fit a GPU does, by the plan."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from trainer.config import apply_overrides, parse_config
from trainer.gpus import gpu_named
from trainer.plan import fit_of, setup_of

NOTEBOOKS = Path(__file__).resolve().parents[3] / "trainer" / "notebooks"
RECIPES = {"sft": "sft", "dpo": "dpo", "grpo_remote": "grpo"}
GPUS = {"T4": "t4", "L4": "l4", "A100": "a100-40"}


def settings(name: str) -> dict[str, Any]:
    """The literals that a notebook's settings cell assigns."""
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse((NOTEBOOKS / f"{name}.py").read_text())):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name | ast.Tuple):
            targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else [node.targets[0]]
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            values = value if isinstance(node.targets[0], ast.Tuple) else [value]
            found |= {t.id: v for t, v in zip(targets, values, strict=True) if isinstance(t, ast.Name)}
    return found


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("name", RECIPES)
def test_what_a_notebook_says_to_fit_does(name: str, gpu: str) -> None:
    said = settings(name)
    assert set(said["FITS"]) == set(GPUS)
    recipe = {
        "recipe": RECIPES[name],
        "model": {"name": said["MODEL"]},
        "lora": {"r": said["LORA_RANK"], "alpha": said["LORA_ALPHA"]},
        "rollout": {"engine": "vllm_process"},
    }
    config = parse_config(apply_overrides(recipe, said["FITS"][gpu]))
    fit = fit_of(setup_of(config, gpu_named(GPUS[gpu])))
    assert fit.fits, (fit.obstacles, [(p.name, p.bytes / 2**30) for p in fit.parts], fit.need / 2**30, fit.moment)
    assert fit.cache_tokens is None or fit.cache_tokens >= 4 * config.rollout.max_episode_tokens
