"""``envloop plan``: does it fit, and SFT or RL? Nothing heavy is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envs.errors import ConfigError
from trainer.cli import Json, Sets, console

if TYPE_CHECKING:
    from rich.table import Table

    from trainer.baseline import Outlook
    from trainer.config import TrainConfig
    from trainer.plan import Plan

__all__ = ["plan_app"]

plan_app = typer.Typer(
    help="Does a recipe fit a GPU, and is it time for SFT or for RL?",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@plan_app.callback(invoke_without_command=True)
def _plan(  # noqa: PLR0917 - options of the command line
    gpu: Annotated[str | None, typer.Option(help="t4, l4, a100-40, a100-80, h100 or h200.")] = None,
    model: Annotated[str | None, typer.Option(help="A known model, a folder with a config.json, or smollm2.")] = None,
    recipe: Annotated[str | None, typer.Option(help="sft, grpo, dpo, kto or ppo; default the configuration's.")] = None,
    context: Annotated[int | None, typer.Option(help="The longest row, in tokens.", min=64, max=262144)] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Take every other setting from a recipe.")] = None,
    sets: Sets = None,
    trained: Annotated[float, typer.Option(help="Share of a row that the policy wrote.", min=0.01, max=1.0)] = 1.0,
    baseline: Annotated[Path | None, typer.Option(help="A report of envloop eval: SFT first, or RL?")] = None,
    as_json: Json = False,
) -> None:
    """Memory by part, yes or no, and the change that makes it fit; with --baseline also whether groups would differ."""
    if gpu is None and baseline is None:
        raise ConfigError(
            "nothing to plan for", hint="name a GPU (--gpu l4), a baseline (--baseline eval-….json), or both"
        )
    settings = _settings(config, sets, model=model, recipe=recipe, context=context)
    document: dict[str, Any] = {}
    out = console(stderr=False)
    if gpu is not None:
        from trainer.gpus import gpu_named
        from trainer.plan import make_plan, setup_of

        plan = make_plan(setup_of(settings, gpu_named(gpu), recipe=recipe, trained=trained))
        document |= plan.to_json()
        if not as_json:
            out.print(_table(plan))
            out.print(_verdict(plan), highlight=False)
    if baseline is not None:
        from trainer.baseline import outlook, read_baseline

        r = settings.rollout
        said = outlook(read_baseline(baseline), group_size=r.group_size, groups_per_step=r.groups_per_step)
        document["outlook"] = said.to_json()
        if not as_json:
            out.print(_outlook_table(said))
            out.print(said.reason, highlight=False)
            if said.starving:
                out.print(f"Types that would hardly have a useful group: {', '.join(said.starving)}", highlight=False)
    if as_json:
        typer.echo(json.dumps(document, sort_keys=True))


def _settings(
    config: Path | None, sets: list[str] | None, *, model: str | None, recipe: str | None, context: int | None
) -> TrainConfig:
    from trainer.config import apply_overrides, load_config, parse_config
    from trainer.plan import RECIPES

    if recipe is not None and recipe not in RECIPES:
        raise ConfigError(f"no recipe is called {recipe!r}", hint=f"known: {', '.join(RECIPES)}")
    # What a configuration may say depends on its recipe.
    first = [f"recipe='{recipe}'"] if recipe is not None and config is None else []
    tree = load_config(config, [*first, *(sets or ())]).model_dump()
    given: dict[str, Any] = {} if model is None else {"model.name": model}
    if context is not None:
        given["rollout.max_episode_tokens"] = context
        given |= {
            f"{name}.max_length": context
            for name, section in tree.items()
            if isinstance(section, dict) and "max_length" in section
        }
    return parse_config(apply_overrides(tree, given), where="the options of envloop plan")


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"


def _table(plan: Plan) -> Table:
    from rich.table import Table

    job, gpu = plan.setup.job, plan.setup.gpu
    table = Table(title=f"{plan.setup.shape.name}, {job.recipe} on {gpu.title}: GiB at the fullest moment")
    table.add_column("part")
    table.add_column("GiB", justify="right")
    table.add_column("", style="dim")
    for part in plan.fit.parts:
        table.add_row(part.name, _gib(part.bytes), part.note)
    table.add_section()
    table.add_row("needed", _gib(plan.fit.need), plan.fit.moment)
    table.add_row("there is", _gib(plan.fit.memory), "")
    return table


def _verdict(plan: Plan) -> str:
    fit = plan.fit
    lines = [f"but: {obstacle}" for obstacle in fit.obstacles]
    if fit.fits:
        return f"Yes: {_gib(fit.need)} of {_gib(fit.memory)} GiB."
    lines.insert(0, f"No: {_gib(fit.need)} of {_gib(fit.memory)} GiB.")
    if plan.changed is not None:
        lines += ["It fits with:", *(f"  {change}" for change in plan.changes)]
        lines += [f"({_gib(plan.changed.need)} of {_gib(fit.memory)} GiB)"]
    else:
        lines.append("No change of settings makes it fit this GPU.")
    lines.append(f"As it is, it fits: {', '.join(plan.gpus) or 'none of the known GPUs'}")
    return "\n".join(lines)


def _outlook_table(said: Outlook) -> Table:
    from rich.table import Table

    table = Table(title=f"Groups of {said.group_size} with both a win and a loss, at most")
    table.add_column("type")
    for name in ("episodes", "success", "95 %", "mixed groups", "95 %"):
        table.add_column(name, justify="right")
    for row in said.types:
        table.add_row(
            row.type,
            str(row.episodes),
            f"{row.success:.1%}",
            f"{row.low:.1%} … {row.high:.1%}",
            f"{row.mixed:.0%}",
            f"{row.mixed_low:.0%} … {row.mixed_high:.0%}",
        )
    return table
