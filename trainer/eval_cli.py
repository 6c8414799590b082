"""``envloop eval``. Nothing heavy is imported before the command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envs.errors import ConfigError
from trainer.cli import Debug, Json, Sets, console

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.eval_figures import EvalReport

__all__ = ["eval_app"]

eval_app = typer.Typer(
    help="Play a split with any engine and report success.", add_completion=False, pretty_exceptions_enable=False
)


@eval_app.callback(invoke_without_command=True)
def _eval(  # noqa: PLR0917 - options of the command line
    env: Annotated[str, typer.Option(help="The environment: alfworld, dbbench.")],
    split: Annotated[str, typer.Option(help="The split.")],
    engine: Annotated[
        str | None,
        typer.Option(
            help="vllm, transformers, openai (vLLM by URL), chat (any chat endpoint, by text); expert, explorer, "
            "repair, near_miss, random, noop; default the recipe's."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A hub name, a folder, smollm2, or a server's own name.")] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="Play with this LoRA adapter; with --url it becomes current for all.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="A rollout server instead of an engine here.")] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="Server of the engines openai and chat (else OPENAI_BASE_URL; the key is OPENAI_API_KEY)."),
    ] = None,
    env_url: Annotated[str | None, typer.Option(help="An environment server instead of one in this process.")] = None,
    protocol: Annotated[str | None, typer.Option(help="agentbench_fc or agentbench_classic.")] = None,
    type: Annotated[str | None, typer.Option(help="Only tasks of this type.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many tasks; 0 for the whole split.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Episodes of each task: tells pass@k. Needs a --temperature above 0.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature; default 0, greedy.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of sampling and bootstraps.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Do not play again what --output holds of it.")] = False,
    compare: Annotated[
        str | None, typer.Option(help="Compare, task by task, with a report (file or folder), a run or a policy.")
    ] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw the report's plots (matplotlib).")] = True,
    config: Annotated[Path | None, typer.Option("--config", help="Take every other setting from a recipe.")] = None,
    sets: Sets = None,
    debug: Debug = False,
    output: Annotated[Path, typer.Option("--output", help="Folder of the episode store and the report.")] = Path(
        "runs/eval"
    ),
    as_json: Json = False,
) -> None:
    """Play a split and report: success by task type with intervals, pass@k, AgentBench's aggregate, what failed."""
    from trainer.config import apply_overrides, load_config, parse_config

    base = load_config(config, sets or ()) if config is not None else parse_config({}) if not sets else None
    if base is None:
        raise ConfigError("--set changes a recipe", hint="name one with --config")
    given = {
        "rollout.engine": engine,
        "model.name": model,
        "rollout.url": url,
        "rollout.env_url": env_url,
        "rollout.protocol": protocol,
        "eval.limit": limit,
        "eval.samples": samples,
        "eval.temperature": temperature,
        "run.seed": seed,
        "run.output_dir": str(output),
    }
    if base_url is not None:
        given["rollout.engine_options"] = {**base.rollout.engine_options, "base_url": base_url}  # type: ignore[assignment]
    tree = apply_overrides(base.model_dump(), {k: v for k, v in given.items() if v is not None})
    recipe = parse_config(tree, where="the options of envloop eval")
    recipe = recipe.debugged() if debug else recipe
    baseline = None
    if compare is not None:  # looked for before anything is played
        from trainer.eval_compare import load_baseline
        from trainer.services import store_url

        baseline = load_baseline(compare, env=env, split=split, store_url=store_url(recipe))
    report = _evaluate(
        recipe,
        env,
        split,
        type=type,
        adapter=adapter.resolve() if adapter is not None else None,
        named=model is not None or config is not None,
        resume=resume,
    )
    _tell(report, recipe, baseline, plots=plots, as_json=as_json)


def _tell(report: EvalReport, recipe: TrainConfig, baseline: Any, *, plots: bool, as_json: bool) -> None:
    from trainer.eval_compare import compare_reports, comparison_view
    from trainer.eval_figures import report_table
    from trainer.eval_report import write_report

    found = compare_reports(report, baseline) if baseline is not None else None
    path = write_report(report, recipe.run.output_dir, comparison=found, plots=plots)
    if as_json:
        document = report.to_json() | ({"comparison": found.to_json()} if found is not None else {})
        typer.echo(json.dumps(document, sort_keys=True))
        return
    screen = console(stderr=False)
    screen.print(report_table(report))
    if found is not None:
        screen.print(comparison_view(found))
    if report.resumed:
        screen.print(f"{report.resumed} episodes were played before", highlight=False)
    screen.print(f"report: {path}", highlight=False, soft_wrap=True)


def _evaluate(
    recipe: TrainConfig,
    env: str,
    split: str,
    *,
    type: str | None,
    adapter: Path | None,
    named: bool,
    resume: bool,
) -> EvalReport:
    from rich.progress import Progress

    from trainer.evaluate import play_split
    from trainer.loops import LoopThread

    with LoopThread() as loop, Progress(console=console(), transient=True) as progress:
        bar = progress.add_task(f"{env} {split}", total=None)
        return loop.run(
            play_split(
                recipe,
                env,
                split,
                type=type,
                adapter=adapter,
                with_model=named,
                resume=resume,
                on_total=lambda n: progress.update(bar, total=n),
                on_episode=lambda _: progress.advance(bar),
            )
        )
