# /// script
# requires-python = ">=3.12"
# dependencies = [
#     "envloop[train,qlora] @ git+https://github.com/OWNER/envloop", # your clone's address
#     "ipython>=9,<10", # transformers' Trainer imports it wherever marimo runs
#     "marimo>=0.18,<1",
# ]
# ///
"""Supervised fine-tuning on episodes of the expert: a start for GRPO, on Colab, on a rented GPU, or here.

Open it with `marimo edit trainer/notebooks/sft.py`, run it with `python`, or turn it into a Jupyter notebook
with scripts/export_to_ipynb.sh. Every cell calls the product's own functions; `envloop train sft` does the same.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Supervised fine-tuning on expert episodes

    The expert plays, its episodes are stored, and a LoRA adapter learns them with the tokens and masks that GRPO will
    use. Change the settings in the next cell, then run everything from top to bottom. It may be interrupted at any
    time: run it again, and it goes on from the last checkpoint.
    """)
    return


@app.cell
def _():
    import os

    # Where the expert plays: a server (whose token is ENVLOOP_EXPERT_TOKEN), or None: environments in this process.
    ENV_URL = os.environ.get("ENVLOOP_ENV_URL")
    ENVIRONMENT, SPLIT = "alfworld", "generated"
    EXPERT_EPISODES = 500

    # What is trained, and on which GPU (Colab: Runtime, Change runtime type). FITS is what fits this model to it, as
    # counted by `envloop plan`; for another model ask it first.
    MODEL = "Qwen/Qwen3-4B-Instruct-2507"
    LORA_RANK, LORA_ALPHA = 64, 128
    GPU = os.environ.get("ENVLOOP_GPU", "L4")
    FITS = {
        "T4": {"model.dtype": "float16", "lora.qlora": True, "sft.max_length": 2048},
        "L4": {"model.dtype": "bfloat16", "lora.qlora": True, "sft.max_length": 4096},
        "A100": {"model.dtype": "bfloat16", "lora.qlora": False, "sft.max_length": 8192},
    }

    # How.
    EPOCHS = 2
    LEARNING_RATE = 5e-5
    EFFECTIVE_BATCH, MICRO_BATCH = 16, 1
    HELD_OUT_TASKS, EVALUATE_EVERY = 0, 50  # above 0: play so many unseen tasks every 50 steps, and keep the best

    # Where it is kept (on Colab: in Drive), and what Colab installs: put your clone's address in place of OWNER.
    OUTPUT = os.environ.get("ENVLOOP_OUTPUT", "runs/sft")
    PACKAGE = "envloop[train,qlora] @ git+https://github.com/OWNER/envloop"

    # A small run on CPU that touches every part: a tiny model with random weights, 2 steps.
    DEBUG = os.environ.get("ENVLOOP_DEBUG_NOTEBOOK", "") not in ("", "0")
    return (
        DEBUG,
        EFFECTIVE_BATCH,
        ENVIRONMENT,
        ENV_URL,
        EPOCHS,
        EVALUATE_EVERY,
        EXPERT_EPISODES,
        FITS,
        GPU,
        HELD_OUT_TASKS,
        LEARNING_RATE,
        LORA_ALPHA,
        LORA_RANK,
        MICRO_BATCH,
        MODEL,
        OUTPUT,
        PACKAGE,
        SPLIT,
        os,
    )


@app.cell
def _(ENV_URL, OUTPUT, PACKAGE, os):
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
        if ENV_URL is not None:
            os.environ["ENVLOOP_EXPERT_TOKEN"] = userdata.get("ENVLOOP_EXPERT_TOKEN")

    import marimo as mo

    return mo, output_dir


@app.cell
def _(
    DEBUG,
    EFFECTIVE_BATCH,
    ENVIRONMENT,
    ENV_URL,
    EPOCHS,
    EVALUATE_EVERY,
    EXPERT_EPISODES,
    FITS,
    GPU,
    HELD_OUT_TASKS,
    LEARNING_RATE,
    LORA_ALPHA,
    LORA_RANK,
    MICRO_BATCH,
    MODEL,
    SPLIT,
    output_dir,
):
    from trainer.config import apply_overrides, parse_config

    recipe = {
        "recipe": "sft",
        "model": {"name": MODEL},
        "lora": {"r": LORA_RANK, "alpha": LORA_ALPHA},
        "data": {"sources": [{"env": ENVIRONMENT, "split": SPLIT}]},
        "rollout": {"env_url": ENV_URL},
        "sft": {
            "collect": EXPERT_EPISODES,
            "engines": ["scripted"],
            "epochs": EPOCHS,
            "learning_rate": LEARNING_RATE,
            "effective_batch": EFFECTIVE_BATCH,
            "micro_batch": MICRO_BATCH,
        },
        "run": {"output_dir": output_dir, "resume": True},
    }
    recipe = apply_overrides(recipe, FITS[GPU])
    if HELD_OUT_TASKS:
        recipe = apply_overrides(recipe, {"eval.tasks": HELD_OUT_TASKS, "eval.every": EVALUATE_EVERY})
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
            "sft.collect": 4,
            "sft.steps": 2,
            "sft.effective_batch": 2,
            "sft.max_length": 16384,
            "run.save_every": 1,
        }
        recipe = apply_overrides(recipe, small)
    config = parse_config(recipe, where="this notebook's settings")
    return (config,)


@app.cell
def _(config):
    from trainer.sft import train_sft

    result = train_sft(config)
    return (result,)


@app.cell
def _(mo, result):
    summary = (
        f"{result.steps} steps on {result.episodes} episodes. For INIT_ADAPTER of grpo_remote.py: `{result.adapter}`."
    )
    columns = ("loss", "learning_rate", "grad_norm")
    rows = [{"step": i} | {k: round(m[k], 4) for k in columns if k in m} for i, m in enumerate(result.metrics, 1)]
    mo.vstack([mo.md(summary), mo.ui.table(rows, selection=None)])
    return


if __name__ == "__main__":
    app.run()
