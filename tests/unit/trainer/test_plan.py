"""Does it fit? The plan's arithmetic: known shapes, parts that move as they should, changes that make it fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envs.errors import ConfigError
from trainer.config import load_config, parse_config
from trainer.gpus import GIB, GPUS, gpu_named
from trainer.memory import Job, step_memory, weight_bytes
from trainer.model_shapes import KNOWN_SHAPES, model_shape
from trainer.plan import RECIPES, fit_of, make_plan, setup_of
from trainer.plan_cli import plan_app

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
QWEN25 = KNOWN_SHAPES["Qwen/Qwen2.5-7B-Instruct"]
QWEN3 = KNOWN_SHAPES["Qwen/Qwen3-4B-Instruct-2507"]
JOB = Job("sft", 4096)


def gpu_of(path: Path) -> str:
    return next(name for name in GPUS if path.stem.endswith(f"-{name}"))


@pytest.mark.parametrize(
    ("name", "parameters"),
    # As the model cards say (7.61 and 4.02 billion, 134.5 million).
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen3-4B-Instruct-2507", 4_022_468_096),
        ("smollm2", 134_515_008),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
    ],
)
def test_known_models_have_their_published_number_of_weights(name: str, parameters: int) -> None:
    assert model_shape(name).parameters == parameters


def test_a_folder_is_read_and_what_cannot_be_described_is_refused(tmp_path: Path) -> None:
    known = {
        "model_type": "qwen3", "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9728, "vocab_size": 151936,
        "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(known))
    assert replace(model_shape(str(tmp_path)), name=QWEN3.name) == QWEN3
    for wrong in (known | {"model_type": "qwen3_moe"}, {k: v for k, v in known.items() if k != "vocab_size"}):
        (tmp_path / "config.json").write_text(json.dumps(wrong))
        with pytest.raises(ConfigError, match="is not described"):
            model_shape(str(tmp_path))
    with pytest.raises(ConfigError, match=r"no folder with a config\.json"):
        model_shape("Qwen/Qwen9")


def test_the_tiny_model_has_as_many_weights_as_its_shape_says(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from trainer.tiny_model import save_tiny_model

    folder = save_tiny_model(tmp_path / "tiny")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model_shape(str(folder)).parameters == sum(p.numel() for p in model.parameters())


def test_four_bits_are_for_the_linear_layers_alone() -> None:
    whole, four = weight_bytes(QWEN25, JOB), weight_bytes(QWEN25, replace(JOB, four_bit=True))
    assert whole == 2 * 7_615_616_512
    kept = 2 * (2 * QWEN25.embedding_parameters + QWEN25.small_parameters)
    assert four - kept == pytest.approx(0.516 * QWEN25.block_linear_parameters, rel=1e-3)
    assert 5.0 < four / GIB < 5.4  # what bitsandbytes is known to take for this model


def test_parts_move_as_they_should() -> None:
    """Each switch moves its own part, the right way."""
    base = step_memory(QWEN25, JOB)
    free = step_memory(QWEN25, replace(JOB, checkpointing=False))
    assert free.activations > 5 * base.activations
    assert free.resident == base.resident
    full = step_memory(QWEN25, replace(JOB, lora_rank=None))
    assert full.adapter == 0
    assert full.optimizer == 2 * full.weights == 2 * base.weights
    assert step_memory(QWEN25, replace(JOB, tokens=8192)).activations == pytest.approx(2 * base.activations, rel=0.01)
    assert step_memory(QWEN25, replace(JOB, micro_batch=2)).activations == pytest.approx(2 * base.activations, rel=0.01)
    pairs = step_memory(QWEN25, replace(JOB, recipe="dpo"))
    assert pairs.activations >= 1.9 * base.activations
    eager = step_memory(QWEN25, replace(JOB, attention="eager"))
    assert eager.activations - base.activations > 28 * 4096 * 4096 * 4  # the probabilities of one layer
    assert step_memory(QWEN25, replace(JOB, liger=True)).total < base.total
    copied = step_memory(QWEN25, replace(JOB, reference_adapter=True))
    assert copied.adapter - base.adapter == 4 * QWEN25.adapter_parameters(64)


FOR_A_GPU = sorted(path for path in CONFIGS.glob("*.toml") if not path.stem.endswith("-cpu"))


@pytest.mark.parametrize("path", FOR_A_GPU, ids=lambda p: p.stem)
def test_every_recipe_fits_the_gpu_that_it_names(path: Path) -> None:
    fit = fit_of(setup_of(load_config(path), gpu_named(gpu_of(path))))
    assert fit.fits, (fit.need / GIB, fit.memory / GIB, fit.obstacles)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("gpu", GPUS)
def test_what_a_plan_advises_fits(recipe: str, gpu: str) -> None:
    """The changes are settings: made in the recipe, they give the plan that was promised, and it fits."""
    config = parse_config({"recipe": "sft" if recipe == "sft" else "grpo", "model": {"gradient_checkpointing": False}})
    plan = make_plan(setup_of(config, gpu_named(gpu), recipe=recipe))
    assert plan.fit.fits == (not plan.changes) or plan.changed is None
    if plan.changed is not None:
        assert plan.changed.fits
        assert not plan.fit.fits
    if recipe == "sft":
        sets = [part for change in plan.changes for part in change.split(", ") if "liger" not in part]
        again = load_config(None, ["recipe='sft'", "model.gradient_checkpointing=false", *sets])
        if plan.changed is not None and not any("liger" in change for change in plan.changes):
            assert fit_of(setup_of(again, gpu_named(gpu))) == plan.changed


def test_a_small_gpu_is_told_what_to_change() -> None:
    sft = load_config(None, ["recipe='sft'"])
    plan = make_plan(setup_of(sft, gpu_named("t4")))
    assert not plan.fit.fits
    assert plan.changes == ("lora.qlora = true",)
    assert "t4" not in plan.gpus
    assert "h200" in plan.gpus
    full = make_plan(setup_of(load_config(None, ["recipe='sft'", "lora.full=true"]), gpu_named("a100-40")))
    assert any(change.startswith("lora.full = false") for change in full.changes)
    bfloat16 = make_plan(setup_of(load_config(None, ["recipe='sft'", "model.dtype='bfloat16'"]), gpu_named("t4")))
    assert any("no bfloat16" in obstacle for obstacle in bfloat16.fit.obstacles)
    assert "model.dtype = 'float16'" in bfloat16.changes


def test_an_engine_on_the_same_gpu_counts() -> None:
    shared = load_config(CONFIGS / "grpo-qwen2.5-7b-a100-80.toml")
    with_engine = fit_of(setup_of(shared, gpu_named("a100-80")))
    alone = fit_of(
        setup_of(
            load_config(CONFIGS / "grpo-qwen2.5-7b-a100-80.toml", ["rollout.url='http://x'"]), gpu_named("a100-80")
        )
    )
    assert with_engine.need - alone.need == pytest.approx(0.45 * 79.14 * GIB, rel=0.001)
    assert alone.cache_tokens is None
    cache = {p.name: p.bytes for p in with_engine.parts}["engine's KV cache"]
    assert with_engine.cache_tokens == cache // (2 * 28 * 4 * 128 * 2)  # keys and values, layers, heads, bfloat16
    small = load_config(CONFIGS / "grpo-qwen2.5-7b-a100-80.toml", ["rollout.engine_options.gpu_memory_utilization=0.2"])
    starved = fit_of(setup_of(small, gpu_named("a100-80")))
    assert "holds no episode" in starved.obstacles[0]
    engine = setup_of(shared, gpu_named("a100-80")).engine
    assert engine is not None
    asleep = fit_of(replace(setup_of(shared, gpu_named("a100-80")), engine=replace(engine, sleeps=True)))
    assert alone.need < asleep.need < with_engine.need


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(plan_app, list(arguments))
    return result.exit_code, result.output


def test_the_command_answers_in_words_and_in_json() -> None:
    code, text = run("--model", "Qwen/Qwen2.5-7B-Instruct", "--gpu", "t4", "--recipe", "sft", "--context", "2048")
    assert code == 0
    assert "No: " in text
    assert "lora.qlora = true" in text
    code, text = run("--gpu", "a100-40", "--config", str(CONFIGS / "grpo-qwen3-4b-a100-40.toml"), "--json")
    document = json.loads(text)
    assert document["fits"]
    assert document["need"] == sum(document["parts"].values())
    assert document["context"] == 8192
    for recipe in RECIPES:
        code, text = run("--gpu", "h200", "--recipe", recipe, "--set", "lora.qlora=true", "--json")
        assert json.loads(text)["recipe"] == recipe


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to plan for"),
        (("--gpu", "k80"), "no GPU is called"),
        (("--gpu", "t4", "--recipe", "rl"), "no recipe"),
    ],
)
def test_bad_questions_get_an_error(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(plan_app, list(arguments))
    assert isinstance(result.exception, ConfigError)
    assert said in str(result.exception)
