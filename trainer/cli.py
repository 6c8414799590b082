"""``envloop train …`` and ``envloop eval``. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envs.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.config import TrainConfig
    from trainer.evaluate import EvalReport

__all__ = ["eval_app", "train_app"]

train_app = typer.Typer(
    help="Train a policy: GRPO over rollouts, SFT on stored episodes.",
    no_args_is_help=True,
    add_completion=False,  # it would complete `train`, not `envloop train`
    pretty_exceptions_enable=False,
)
eval_app = typer.Typer(
    help="Play a split with any engine and report success.", add_completion=False, pretty_exceptions_enable=False
)

Recipe = Annotated[Path, typer.Option("--config", help="The recipe, a TOML file such as those in configs/.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Replace a setting: grpo.learning_rate=3e-6. Repeatable.")
]
Debug = Annotated[bool, typer.Option("--debug", help="The recipe in small: 10 to 50 episodes, two steps.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in run.output_dir.")]
Output = Annotated[Path | None, typer.Option("--output", help="run.output_dir: checkpoints, adapters, metrics.")]
AllowEval = Annotated[
    list[str] | None,
    typer.Option("--allow-eval-split", help="Train on this evaluation split all the same (env/split). Repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output.")]


@train_app.command("grpo")
def _grpo(  # noqa: PLR0917 - options of the command line
    config: Recipe,
    sets: Sets = None,
    debug: Debug = False,
    resume: Resume = False,
    output: Output = None,
    allow_eval_split: AllowEval = None,
    as_json: Json = False,
) -> None:
    """Group-relative policy optimisation: play groups, update the adapter, swap it into the engine, again."""
    recipe = _recipe(config, sets, "grpo", debug=debug, resume=resume, output=output, allow=allow_eval_split)
    from trainer.grpo import train_grpo

    result = train_grpo(recipe, console=_console())
    _finish(
        as_json,
        f"{result.steps} steps; the last policy is {result.policies[-1] if result.policies else 'the base model'}",
        {"steps": result.steps, "policies": result.policies, "output_dir": str(result.output_dir)},
    )


@train_app.command("sft")
def _sft(  # noqa: PLR0917 - options of the command line
    config: Recipe,
    sets: Sets = None,
    debug: Debug = False,
    resume: Resume = False,
    output: Output = None,
    allow_eval_split: AllowEval = None,
    collect: Annotated[int | None, typer.Option(help="First play this many tasks with the expert.")] = None,
    as_json: Json = False,
) -> None:
    """Supervised fine-tuning on stored episodes, with the tokens and masks as they were played."""
    more = [] if collect is None else [f"sft.collect={collect}"]
    recipe = _recipe(
        config, [*(sets or ()), *more], "sft", debug=debug, resume=resume, output=output, allow=allow_eval_split
    )
    from trainer.sft import train_sft

    result = train_sft(recipe, console=_console())
    _finish(
        as_json,
        f"{result.steps} steps on {result.episodes} episodes; the adapter is in {result.adapter}",
        {
            "steps": result.steps,
            "episodes": result.episodes,
            "left_out": result.left_out,
            "adapter": str(result.adapter),
        },
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

    _console(stderr=False).print(report_table(report))


def _evaluate(
    recipe: TrainConfig, env: str, split: str, *, type: str | None, adapter: Path | None, named: bool
) -> EvalReport:
    from rich.progress import Progress

    from trainer.evaluate import play_split
    from trainer.loops import LoopThread
    from trainer.record import write_json

    with LoopThread() as loop, Progress(console=_console(), transient=True) as progress:
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


def _recipe(
    path: Path,
    sets: list[str] | None,
    kind: str,
    *,
    debug: bool,
    resume: bool,
    output: Path | None,
    allow: list[str] | None,
) -> TrainConfig:
    from trainer.config import apply_overrides, load_config, parse_config

    recipe = load_config(path, sets or ())
    if recipe.recipe != kind:
        raise ConfigError(f"{path} is a recipe for {recipe.recipe}", hint=f"run envloop train {recipe.recipe}")
    more: dict[str, Any] = {}
    if resume:
        more["run.resume"] = True
    if output is not None:
        more["run.output_dir"] = str(output)
    if allow:
        more["data.allow_eval_split"] = [*recipe.data.allow_eval_split, *allow]
    recipe = parse_config(apply_overrides(recipe.model_dump(), more), where=str(path))
    return recipe.debugged() if debug else recipe


def _console(*, stderr: bool = True) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def _finish(as_json: bool, text: str, document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, sort_keys=True) if as_json else text)
