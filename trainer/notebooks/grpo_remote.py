# /// script
# requires-python = ">=3.12"
# dependencies = [
#     "envloop[train,vllm,qlora] @ git+https://github.com/OWNER/envloop", # your clone's address
#     "ipython>=9,<10", # transformers' Trainer imports it wherever marimo runs
#     "marimo>=0.18,<1",
# ]
# ///
"""GRPO against an env server that runs somewhere else: on Colab, on a rented GPU, or here.

Open it with `marimo edit trainer/notebooks/grpo_remote.py`, run it with `python`, or turn it into a Jupyter notebook
with scripts/export_to_ipynb.sh. Every cell calls the product's own functions; `envloop train grpo` does the same.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # GRPO against a remote env server

    The environments run at home, behind a tunnel (`docs/colab.md`); this machine plays them with vLLM and trains a LoRA
    adapter on what it played. Change the settings in the next cell, then run everything from top to bottom. It may be
    interrupted at any time: run it again, and it goes on from the last checkpoint.
    """)
    return


@app.cell
def _():
    import os

    # Where the environments are. The token is read from ENVLOOP_TOKEN (on Colab: the secret of that name).
    ENV_URL = os.environ.get("ENVLOOP_ENV_URL", "http://127.0.0.1:8470")
    ENVIRONMENT, SPLIT = "alfworld", "generated"

    # What is trained, and on which GPU (Colab: Runtime, Change runtime type). FITS is what fits this model to it, as
    # counted by `envloop plan`; for another model ask it first. `vllm_process` sleeps while the trainer works.
    MODEL = "Qwen/Qwen3-4B-Instruct-2507"
    LORA_RANK, LORA_ALPHA = 64, 128
    INIT_ADAPTER = None  # go on from an adapter of sft.py: its folder
    GPU = os.environ.get("ENVLOOP_GPU", "L4")
    FITS = {
        "T4": {
            "model.dtype": "float16",
            "lora.qlora": True,
            "lora.r": 16,
            "lora.alpha": 32,
            "rollout.engine_options.gpu_memory_utilization": 0.72,
            "rollout.max_episode_tokens": 2048,
            "rollout.max_tokens": 256,
        },
        "L4": {
            "model.dtype": "bfloat16",
            "lora.qlora": True,
            "rollout.engine_options.gpu_memory_utilization": 0.72,
            "rollout.max_episode_tokens": 4096,
        },
        "A100": {
            "model.dtype": "bfloat16",
            "rollout.engine_options.gpu_memory_utilization": 0.7,
            "rollout.max_episode_tokens": 8192,
        },
    }

    # How. One step plays GROUPS_PER_STEP tasks, GROUP_SIZE times each.
    STEPS = 200
    GROUP_SIZE, GROUPS_PER_STEP = 8, 4
    LEARNING_RATE, KL_WEIGHT = 2e-6, 0.01
    TEMPERATURE = 1.0
    MAX_TOKENS_PER_TURN = 512
    INVALID_ACTION_COST = 0.05  # gives a signal to groups in which every episode fails

    # Where it is kept (on Colab: in Drive), and what Colab installs: put your clone's address in place of OWNER.
    OUTPUT = os.environ.get("ENVLOOP_OUTPUT", "runs/grpo-remote")
    PACKAGE = "envloop[train,vllm,qlora] @ git+https://github.com/OWNER/envloop"

    # A small run on CPU that touches every part: a tiny model with random weights, 2 steps.
    DEBUG = os.environ.get("ENVLOOP_DEBUG_NOTEBOOK", "") not in ("", "0")
    return (
        DEBUG,
        ENVIRONMENT,
        ENV_URL,
        FITS,
        GPU,
        GROUPS_PER_STEP,
        GROUP_SIZE,
        INIT_ADAPTER,
        INVALID_ACTION_COST,
        KL_WEIGHT,
        LEARNING_RATE,
        LORA_ALPHA,
        LORA_RANK,
        MAX_TOKENS_PER_TURN,
        MODEL,
        OUTPUT,
        PACKAGE,
        SPLIT,
        STEPS,
        TEMPERATURE,
        os,
    )


@app.cell
def _(OUTPUT, PACKAGE, os):
    # Colab only: install, mount Drive, read the secrets. Elsewhere nothing of this happens.
    from pathlib import Path

    output_dir = Path(OUTPUT)
    if "COLAB_RELEASE_TAG" in os.environ:
        import subprocess
        import sys

        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", PACKAGE, "marimo"], check=True)
        from google.colab import drive, userdata

        drive.mount("/content/drive")
        output_dir = Path("/content/drive/MyDrive/envloop") / OUTPUT
        os.environ["ENVLOOP_TOKEN"] = userdata.get("ENVLOOP_TOKEN")

    import marimo as mo

    return mo, output_dir


@app.cell
def _(ENV_URL, mo, os):
    # Is the server there, and does it take our token? Better asked now than after minutes of loading a model.
    from envs.client import SyncEnvClient

    with SyncEnvClient(ENV_URL, token=os.environ.get("ENVLOOP_TOKEN")) as client:
        served = client.envs()
    mo.md(
        "\n".join(
            [f"`{ENV_URL}` serves:", "", *(f"- {e.spec.id}: {', '.join(s.name for s in e.splits)}" for e in served)]
        )
    )
    return (served,)


@app.cell
def _(
    DEBUG,
    ENVIRONMENT,
    ENV_URL,
    FITS,
    GPU,
    GROUPS_PER_STEP,
    GROUP_SIZE,
    INIT_ADAPTER,
    INVALID_ACTION_COST,
    KL_WEIGHT,
    LEARNING_RATE,
    LORA_ALPHA,
    LORA_RANK,
    MAX_TOKENS_PER_TURN,
    MODEL,
    SPLIT,
    STEPS,
    TEMPERATURE,
    output_dir,
    served,
):
    from trainer.config import apply_overrides, parse_config

    _ = served  # the server has answered
    recipe = {
        "recipe": "grpo",
        "model": {"name": MODEL},
        "lora": {"r": LORA_RANK, "alpha": LORA_ALPHA, "init_adapter": INIT_ADAPTER},
        "data": {"sources": [{"env": ENVIRONMENT, "split": SPLIT}]},
        "rollout": {
            "engine": "vllm_process",
            "env_url": ENV_URL,
            "group_size": GROUP_SIZE,
            "groups_per_step": GROUPS_PER_STEP,
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS_PER_TURN,
            "reward_invalid_action": INVALID_ACTION_COST,
        },
        "grpo": {"steps": STEPS, "learning_rate": LEARNING_RATE, "beta": KL_WEIGHT},
        "run": {"output_dir": output_dir, "resume": True},
    }
    recipe = apply_overrides(recipe, FITS[GPU])
    if DEBUG:
        from trainer.tiny_model import save_tiny_model

        small = {
            "model.name": str(save_tiny_model(output_dir.parent / "tiny-model")),
            "model.dtype": "float32",
            "model.device": "cpu",
            "model.gradient_checkpointing": False,
            "lora.qlora": False,
            "lora.r": 8,
            "lora.alpha": 16,
            "rollout.engine": "transformers",
            "rollout.engine_options": {},
            "rollout.group_size": 2,
            "rollout.groups_per_step": 2,
            "rollout.max_turns": 3,
            "rollout.max_tokens": 16,
            "rollout.max_episode_tokens": 8192,
            "grpo.steps": 2,
            "run.save_every": 1,
        }
        recipe = apply_overrides(recipe, small)
    config = parse_config(recipe, where="this notebook's settings")
    return (config,)


@app.cell
def _(config):
    from trainer.grpo import train_grpo

    result = train_grpo(config)
    return (result,)


@app.cell
def _(mo, result):
    summary = f"{result.steps} steps. Adapters, metrics and checkpoints are in `{result.output_dir}`."
    columns = ("reward", "loss", "kl", "grad_norm")
    rows = [{"step": i} | {k: round(m[k], 4) for k in columns if k in m} for i, m in enumerate(result.metrics, 1)]
    mo.vstack([mo.md(summary), mo.ui.table(rows, selection=None)])
    return


if __name__ == "__main__":
    app.run()
