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
    from trainer.preference_run import PreferenceResult

__all__ = ["Debug", "Json", "Merge", "Push", "Sets", "console", "train_app"]

train_app = typer.Typer(
    help="Train a policy: GRPO or PPO over rollouts; SFT, DPO or KTO on stored episodes.",
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
Collect = Annotated[int | None, typer.Option(help="First play this many tasks, so that they are won and lost.")]
Check = Annotated[bool, typer.Option("--check", help="Show what would be learnt, and train nothing.")]
Merge = Annotated[bool, typer.Option("--merge", help="In the end also write the merged model, to merged/.")]
Push = Annotated[
    str | None, typer.Option("--push", help="In the end send it to this repository (owner/name) of the hub.")
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
    merge: Merge = False,
    push: Push = None,
    as_json: Json = False,
) -> None:
    """Group-relative policy optimisation: play groups, update the adapter, swap it into the engine, again."""
    sets = [*(sets or ()), *_outputs(merge, push)]
    recipe = _recipe(config, sets, "grpo", debug=debug, resume=resume, output=output, allow=allow_eval_split)
    from trainer.grpo import train_grpo
    from trainer.outputs import finish_run

    result = train_grpo(recipe, console=console())
    finish_run(recipe, console())
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
    check: Check = False,
    merge: Merge = False,
    push: Push = None,
    as_json: Json = False,
) -> None:
    """Supervised fine-tuning on stored episodes, with the tokens and masks as they were played, or on a chat file."""
    more = [*([] if collect is None else [f"sft.collect={collect}"]), *_outputs(merge, push)]
    recipe = _recipe(
        config, [*(sets or ()), *more], "sft", debug=debug, resume=resume, output=output, allow=allow_eval_split
    )
    if check:
        _check(recipe, as_json=as_json)
        return
    from trainer.outputs import finish_run
    from trainer.sft import train_sft

    result = train_sft(recipe, console=console())
    finish_run(recipe, console())
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


@train_app.command("dpo")
def _dpo(  # noqa: PLR0917 - options of the command line
    config: Recipe,
    sets: Sets = None,
    debug: Debug = False,
    resume: Resume = False,
    output: Output = None,
    allow_eval_split: AllowEval = None,
    collect: Collect = None,
    check: Check = False,
    merge: Merge = False,
    push: Push = None,
    as_json: Json = False,
) -> None:
    """Direct preference optimisation on won against lost continuations of stored episodes."""
    more = [*([] if collect is None else [f"dpo.collect={collect}"]), *_outputs(merge, push)]
    recipe = _recipe(
        config, [*(sets or ()), *more], "dpo", debug=debug, resume=resume, output=output, allow=allow_eval_split
    )
    from trainer.dpo import train_dpo

    _preferred(as_json, recipe, train_dpo(recipe, console=console(), check=check), "pairs")


@train_app.command("kto")
def _kto(  # noqa: PLR0917 - options of the command line
    config: Recipe,
    sets: Sets = None,
    debug: Debug = False,
    resume: Resume = False,
    output: Output = None,
    allow_eval_split: AllowEval = None,
    collect: Collect = None,
    check: Check = False,
    merge: Merge = False,
    push: Push = None,
    as_json: Json = False,
) -> None:
    """Kahneman-Tversky optimisation on stored episodes, won and lost, paired or not."""
    more = [*([] if collect is None else [f"kto.collect={collect}"]), *_outputs(merge, push)]
    recipe = _recipe(
        config, [*(sets or ()), *more], "kto", debug=debug, resume=resume, output=output, allow=allow_eval_split
    )
    from trainer.kto import train_kto

    _preferred(as_json, recipe, train_kto(recipe, console=console(), check=check), "rows")


@train_app.command("ppo")
def _ppo(  # noqa: PLR0917 - options of the command line
    config: Recipe,
    sets: Sets = None,
    debug: Debug = False,
    resume: Resume = False,
    output: Output = None,
    allow_eval_split: AllowEval = None,
    merge: Merge = False,
    push: Push = None,
    as_json: Json = False,
) -> None:
    """Experimental. As grpo, with a critic's advantages (GAE) instead of a group's."""
    recipe = _recipe(
        config,
        [*(sets or ()), *_outputs(merge, push)],
        "ppo",
        debug=debug,
        resume=resume,
        output=output,
        allow=allow_eval_split,
    )
    from trainer.outputs import finish_run
    from trainer.ppo import train_ppo

    result = train_ppo(recipe, console=console())
    finish_run(recipe, console())
    _finish(
        as_json,
        f"{result.steps} steps; the last policy is {result.policies[-1] if result.policies else 'the base model'}",
        {"steps": result.steps, "policies": result.policies, "output_dir": str(result.output_dir)},
    )


def _preferred(as_json: bool, recipe: TrainConfig, result: PreferenceResult, unit: str) -> None:
    if result.adapter is not None:
        from trainer.outputs import finish_run

        finish_run(recipe, console())
    document: dict[str, Any] = {
        "steps": result.steps,
        "rows": result.rows,
        "left_out": result.left_out,
        "reference": result.reference,
        "adapter": None if result.adapter is None else str(result.adapter),
        "report": result.report,
    }
    text = f"{result.rows} {unit}; nothing was trained"
    if result.adapter is not None:
        text = f"{result.steps} steps on {result.rows} {unit}; the adapter is in {result.adapter}"
    _finish(as_json, text, document)


def _outputs(merge: bool, push: str | None) -> list[str]:
    """The options of what a run makes of its adapter, as overrides of the recipe."""
    return [*(["output.merge=true"] if merge else []), *([f"output.push={push}"] if push else [])]


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
