"""``envloop eval``. Nothing heavy is imported before the command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from envs.errors import ConfigError
from trainer.cli import Debug, Json, Sets, console

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.evaluate import EvalReport

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
            help="vllm, transformers, openai; expert, explorer, repair, near_miss, random, noop; default the recipe's."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A hub name, a folder, or smollm2.")] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="Play with this LoRA adapter; with --url it becomes current for all.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="A rollout server instead of an engine here.")] = None,
    env_url: Annotated[str | None, typer.Option(help="An environment server instead of one in this process.")] = None,
    protocol: Annotated[str | None, typer.Option(help="agentbench_fc or agentbench_classic.")] = None,
    type: Annotated[str | None, typer.Option(help="Only tasks of this type.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many tasks; 0 for the whole split.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Take every other setting from a recipe.")] = None,
    sets: Sets = None,
    debug: Debug = False,
    output: Annotated[Path, typer.Option("--output", help="Folder of the episode store and the report.")] = Path(
        "runs/eval"
    ),
    as_json: Json = False,
) -> None:
    """Play a split and report: success by task type with a 95 % interval, AgentBench's aggregate, what failed."""
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
        "run.output_dir": str(output),
    }
    tree = apply_overrides(base.model_dump(), {k: v for k, v in given.items() if v is not None})
    recipe = parse_config(tree, where="the options of envloop eval")
    report = _evaluate(
        recipe.debugged() if debug else recipe,
        env,
        split,
        type=type,
        adapter=adapter.resolve() if adapter is not None else None,
        named=model is not None or config is not None,
    )
    if as_json:
        typer.echo(json.dumps(report.to_json(), sort_keys=True))
        return
    from trainer.evaluate import report_table

    console(stderr=False).print(report_table(report))


def _evaluate(
    recipe: TrainConfig, env: str, split: str, *, type: str | None, adapter: Path | None, named: bool
) -> EvalReport:
    from rich.progress import Progress

    from trainer.evaluate import play_split
    from trainer.loops import LoopThread
    from trainer.record import write_json

    with LoopThread() as loop, Progress(console=console(), transient=True) as progress:
        bar = progress.add_task(f"{env} {split}", total=None)
        report = loop.run(
            play_split(
                recipe,
                env,
                split,
                type=type,
                adapter=adapter,
                with_model=named,
                on_total=lambda n: progress.update(bar, total=n),
                on_episode=lambda _: progress.advance(bar),
            )
        )
    write_json(recipe.run.output_dir / f"eval-{env}-{split}.json", report.to_json())
    return report
