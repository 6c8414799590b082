"""``envloop train …``. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envs.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.config import TrainConfig

__all__ = ["Debug", "Json", "Sets", "console", "train_app"]

train_app = typer.Typer(
    help="Train a policy: GRPO over rollouts, SFT on stored episodes.",
    no_args_is_help=True,
    add_completion=False,  # it would complete `train`, not `envloop train`
    pretty_exceptions_enable=False,
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

    result = train_grpo(recipe, console=console())
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
    check: Annotated[
        bool, typer.Option("--check", help="Only read and validate what would be learnt from, and report.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Supervised fine-tuning on stored episodes, with the tokens and masks as they were played, or on a chat file."""
    more = [] if collect is None else [f"sft.collect={collect}"]
    recipe = _recipe(
        config, [*(sets or ()), *more], "sft", debug=debug, resume=resume, output=output, allow=allow_eval_split
    )
    if check:
        _check(recipe, as_json=as_json)
        return
    from trainer.sft import train_sft

    result = train_sft(recipe, console=console())
    _finish(
        as_json,
        f"{result.steps} steps on {result.episodes} episodes; the adapter is in {result.adapter}",
        {
            "steps": result.steps,
            "episodes": result.episodes,
            "left_out": result.left_out,
            "adapter": str(result.adapter),
            "best_step": result.best_step,
            "best_success": result.best_success,
            "stopped_early": result.stopped_early,
        },
    )


def _check(recipe: TrainConfig, *, as_json: bool) -> None:
    from trainer.sft_rows import check_sft
    from trainer.sft_validation import check_overlap, sft_report_view

    report = check_sft(recipe)
    if as_json:
        typer.echo(json.dumps(report.to_json(), sort_keys=True))
    else:
        console(stderr=False).print(sft_report_view(report))
    check_overlap(report.overlap, recipe.data.allow_eval_split)


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


def console(*, stderr: bool = True) -> Console:
    """Where a command talks: beside its output, or (``stderr`` False) as its output."""
    from rich.console import Console

    return Console(stderr=stderr)


def _finish(as_json: bool, text: str, document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, sort_keys=True) if as_json else text)
