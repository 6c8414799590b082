# /// script
# requires-python = ">=3.12"
# dependencies = [
#     "envloop[train,qlora] @ git+https://github.com/OWNER/envloop", # your clone's address
#     "ipython>=9,<10", # transformers' Trainer imports it wherever marimo runs
#     "marimo>=0.18,<1",
# ]
# ///
"""Direct preference optimisation on episodes that were won and lost: on Colab, on a rented GPU, or here.

Open it with `marimo edit trainer/notebooks/dpo.py`, run it with `python`, or turn it into a Jupyter notebook
with scripts/export_to_ipynb.sh. Every cell calls the product's own functions; `envloop train dpo` does the same.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Preferences: where a won and a lost episode part

    Two episodes of the same task share their beginning up to the turn that decides. What the winner did there is
    preferred to what the loser did; only the policy's own tokens count. The pairs are shown before anything is trained:
    look at them. The reference is what training begins with: an adapter of `sft.py`, where one is given.
    """)
    return


@app.cell
def _():
    import os

    # Episodes to compare: the store of an earlier run (sqlite:///…/episodes.db), or None: play them now, as below.
    STORE = None

    # Where they are played: a server (whose token is ENVLOOP_EXPERT_TOKEN), or None: environments in this process.
    ENV_URL = os.environ.get("ENVLOOP_ENV_URL")
    ENVIRONMENT, SPLIT = "alfworld", "generated"
    TASKS = 300  # each is lost twice, and the expert takes each loss up in one of its turns and wins

    # What is trained, and on which GPU (Colab: Runtime, Change runtime type). FITS is what fits this model to it, as
    # counted by `envloop plan`; for another model ask it first.
    MODEL = "Qwen/Qwen3-4B-Instruct-2507"
    LORA_RANK, LORA_ALPHA = 64, 128
    INIT_ADAPTER = None  # go on from an adapter of sft.py: its folder
    GPU = os.environ.get("ENVLOOP_GPU", "L4")
    FITS = {
        "T4": {"model.dtype": "float16", "lora.qlora": True, "dpo.max_length": 1024},
        "L4": {"model.dtype": "bfloat16", "lora.qlora": True, "dpo.max_length": 2048},
        "A100": {"model.dtype": "bfloat16", "lora.qlora": False, "dpo.max_length": 4096},
    }

    # How. The scope "turn" compares the turn where two episodes part, "episode" everything from there on.
    SCOPE = "turn"
    BETA, LEARNING_RATE = 0.1, 5e-6

    # Where it is kept (on Colab: in Drive), and what Colab installs: put your clone's address in place of OWNER.
    OUTPUT = os.environ.get("ENVLOOP_OUTPUT", "runs/dpo")
    PACKAGE = "envloop[train,qlora] @ git+https://github.com/OWNER/envloop"

    # A small run on CPU that touches every part: a tiny model with random weights, 2 steps.
    DEBUG = os.environ.get("ENVLOOP_DEBUG_NOTEBOOK", "") not in ("", "0")
    return (
        BETA,
        DEBUG,
        ENVIRONMENT,
        ENV_URL,
        FITS,
        GPU,
        INIT_ADAPTER,
        LEARNING_RATE,
        LORA_ALPHA,
        LORA_RANK,
        MODEL,
        OUTPUT,
        PACKAGE,
        SCOPE,
        SPLIT,
        STORE,
        TASKS,
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
    BETA,
    DEBUG,
    ENVIRONMENT,
    ENV_URL,
    FITS,
    GPU,
    INIT_ADAPTER,
    LEARNING_RATE,
    LORA_ALPHA,
    LORA_RANK,
    MODEL,
    SCOPE,
    SPLIT,
    STORE,
    TASKS,
    output_dir,
):
    from trainer.config import apply_overrides, parse_config

    recipe = {
        "recipe": "dpo",
        "model": {"name": MODEL},
        "lora": {"r": LORA_RANK, "alpha": LORA_ALPHA, "init_adapter": INIT_ADAPTER},
        "data": {"sources": [{"env": ENVIRONMENT, "split": SPLIT}]},
        "rollout": {"env_url": ENV_URL, "max_turns": 20, "max_episode_tokens": 16384},
        "dpo": {
            "store": STORE,
            "collect": 0 if STORE else TASKS,
            "scope": SCOPE,
            "beta": BETA,
            "learning_rate": LEARNING_RATE,
        },
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
            "dpo.collect": 3,
            "dpo.steps": 2,
            "dpo.effective_batch": 2,
            "dpo.max_length": 16384,
            "run.save_every": 1,
        }
        recipe = apply_overrides(recipe, small)
    config = parse_config(recipe, where="this notebook's settings")
    return (config,)


@app.cell
def _(config):
    from trainer.dpo import train_dpo

    # Shows the counts and the first pair, then trains.
    result = train_dpo(config)
    return (result,)


@app.cell
def _(mo, result):
    summary = (
        f"{result.steps} steps on {result.rows} pairs, held against `{result.reference}`; left out: "
        f"{result.left_out or 'none'}. The adapter: `{result.adapter}`. `rewards/margins` should rise and "
        "`rewards/accuracies` end well above one half; where `logps/chosen` falls too, set `dpo.sft_weight`."
    )
    columns = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")
    rows = [{"step": i} | {k: round(m[k], 4) for k in columns if k in m} for i, m in enumerate(result.metrics, 1)]
    mo.vstack([mo.md(summary), mo.ui.table(rows, selection=None)])
    return


if __name__ == "__main__":
    app.run()
