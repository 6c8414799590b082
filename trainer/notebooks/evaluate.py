# /// script
# requires-python = ">=3.12"
# dependencies = [
#     "envloop[train,vllm] @ git+https://github.com/OWNER/envloop", # your clone's address
#     "ipython>=9,<10", # transformers' Trainer imports it wherever marimo runs
#     "marimo>=0.18,<1",
# ]
# ///
"""Evaluate a policy, and look at the episodes behind the figure: on Colab, on a rented GPU, or here.

Open it with `marimo edit trainer/notebooks/evaluate.py`, run it with `python`, or turn it into a Jupyter notebook
with scripts/export_to_ipynb.sh. Every cell calls the product's own functions; `envloop eval` does the same.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Evaluation, and why it fails

    Every task of a held-out split is played; success comes with 95 % intervals, and task by task against the same
    policy without its adapter. Then look at an episode, turn by turn: what the policy saw, said and did. It may be
    interrupted at any time: run it again, and what was played is not played again.
    """)
    return


@app.cell
def _():
    import os

    # Where it is played: a server (whose token is ENVLOOP_TOKEN), or None: environments in this process.
    ENV_URL = os.environ.get("ENVLOOP_ENV_URL")
    ENVIRONMENT, SPLIT = "alfworld", "generated_eval"
    TASKS = 100  # of the split; 0 for all of them

    # Who plays: a T4 wants DTYPE "float16". ADAPTER is a folder of policies/, or of sft.py or dpo.py.
    MODEL, DTYPE = "Qwen/Qwen3-4B-Instruct-2507", "auto"
    ADAPTER = os.environ.get("ENVLOOP_ADAPTER")
    SAMPLES, TEMPERATURE = 1, 0.0  # several samples at a temperature above 0 tell pass@k

    # Where it is kept (on Colab: in Drive), and what Colab installs: put your clone's address in place of OWNER.
    OUTPUT = os.environ.get("ENVLOOP_OUTPUT", "runs/evaluation")
    PACKAGE = "envloop[train,vllm] @ git+https://github.com/OWNER/envloop"

    # A small run on CPU that touches every part: a tiny model with random weights, 4 tasks.
    DEBUG = os.environ.get("ENVLOOP_DEBUG_NOTEBOOK", "") not in ("", "0")
    return (
        ADAPTER,
        DEBUG,
        DTYPE,
        ENVIRONMENT,
        ENV_URL,
        MODEL,
        OUTPUT,
        PACKAGE,
        SAMPLES,
        SPLIT,
        TASKS,
        TEMPERATURE,
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
            os.environ["ENVLOOP_TOKEN"] = userdata.get("ENVLOOP_TOKEN")

    import marimo as mo

    return mo, output_dir


@app.cell
def _(
    DEBUG,
    DTYPE,
    ENV_URL,
    MODEL,
    SAMPLES,
    TASKS,
    TEMPERATURE,
    output_dir,
):
    from trainer.config import apply_overrides, parse_config

    recipe = {
        "model": {"name": MODEL, "dtype": DTYPE},
        "rollout": {"engine": "vllm", "env_url": ENV_URL, "max_tokens": 512},
        "eval": {"limit": TASKS, "samples": SAMPLES, "temperature": TEMPERATURE},
        "run": {"output_dir": output_dir},
    }
    if DEBUG:
        from trainer.tiny_model import save_tiny_model

        small = {
            "model.name": str(save_tiny_model(output_dir.parent / "tiny-model")),
            "model.dtype": "float32",
            "model.device": "cpu",
            "rollout.engine": "transformers",
            "rollout.max_turns": 3,
            "rollout.max_tokens": 16,
            "eval.max_episode_tokens": 8192,
            "eval.limit": 4,
        }
        recipe = apply_overrides(recipe, small)
    config = parse_config(recipe, where="this notebook's settings")
    return (config,)


@app.cell
def _(ADAPTER, ENVIRONMENT, SPLIT, config):
    from pathlib import Path as Folder

    from trainer.evaluate import play_split
    from trainer.loops import LoopThread

    adapter = Folder(ADAPTER).resolve() if ADAPTER else None
    with LoopThread() as loop:
        report = loop.run(play_split(config, ENVIRONMENT, SPLIT, adapter=adapter, resume=True))
        plain = loop.run(play_split(config, ENVIRONMENT, SPLIT, resume=True)) if adapter is not None else None
    return plain, report


@app.cell
def _(config, mo, plain, report):
    from trainer.eval_compare import compare_reports, load_baseline
    from trainer.eval_report import write_report
    from trainer.services import store_url

    # With an adapter: task by task against the model without it.
    folder = config.run.output_dir
    compared = None
    if plain is not None:
        write_report(plain, folder / "plain")
        place = {"env": plain.env, "split": plain.split, "store_url": store_url(config)}
        compared = compare_reports(report, load_baseline(str(folder / "plain"), **place))
    mo.md(write_report(report, folder, comparison=compared).read_text())
    return (store_url,)


@app.cell
def _(config, mo, report, store_url):
    from rollout_server.episode_store import EpisodeStore
    from rollout_server.export_html import episode_to_html

    # One that failed, or any other: put its id in place of the first of them.
    with EpisodeStore(store_url(config)) as store:
        played = [store.get(row["id"]) for row in report.results]
    failed = [episode for episode in played if not episode.success]
    shown = (failed or played)[0]
    mo.vstack([mo.md(f"`{shown.id}`: {shown.task.id}, {shown.status.value}"), mo.iframe(episode_to_html(shown))])
    return


if __name__ == "__main__":
    app.run()
