"""``envloop runs …``: what was trained here. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from envs.errors import ConfigError
from trainer.cli import Json, console

if TYPE_CHECKING:
    from trainer.runs import Run

__all__ = ["runs_app"]

runs_app = typer.Typer(
    help="The runs on this disk: list, show, compare, their best adapter, merge, push, prune.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Root = Annotated[Path | None, typer.Option("--root", help="Folder of the runs (else ENVLOOP_RUNS, else runs).")]
Name = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, the beginning of one, or its folder.")]
Names = Annotated[list[str], typer.Argument(metavar="RUN...", help="Names of runs, or their folders.")]
Metrics = Annotated[list[str] | None, typer.Option("--metric", help="Show this metric. Repeatable.")]
AdapterPath = Annotated[Path | None, typer.Option("--adapter", help="This adapter; by default the run's last.")]


@runs_app.command("list")
def _list(root: Root = None, as_json: Json = False) -> None:
    """Every run, the last that changed first."""
    from trainer.runs import find_runs, runs_root
    from trainer.runs_view import list_table, run_line

    runs = find_runs(runs_root(root))
    if as_json:
        typer.echo(json.dumps([run_line(r) for r in runs], sort_keys=True))
    else:
        console(stderr=False).print(list_table(runs))


@runs_app.command("show")
def _show(run: Name, root: Root = None, metric: Metrics = None, as_json: Json = False) -> None:
    """One run: what was set, seen and reached, its curves, its best adapter, where its episodes are."""
    from trainer.runs_view import run_document, run_panel

    found = _find(root, run)
    if as_json:
        typer.echo(json.dumps(run_document(found), sort_keys=True))
    else:
        console(stderr=False).print(run_panel(found, metrics=metric or ()))


@runs_app.command("compare")
def _compare(
    runs: Names,
    root: Root = None,
    metric: Metrics = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the curves into this PNG file.")] = None,
    as_json: Json = False,
) -> None:
    """Runs side by side: settings that differ, curves, values at steps that all have, the best adapter of each."""
    from trainer.runs_view import compare_document, compare_tables, plot_curves

    if len(runs) < 2:
        raise ConfigError("one run compares to nothing", hint="name two or more, or use envloop runs show")
    found = [_find(root, name) for name in runs]
    if plot is not None:
        plot_curves(found, plot, metrics=metric or ())
    if as_json:
        typer.echo(json.dumps(compare_document(found, metrics=metric or ()), sort_keys=True))
    else:
        console(stderr=False).print(compare_tables(found, metrics=metric or ()))


@runs_app.command("best")
def _best(run: Name, root: Root = None, as_json: Json = False) -> None:
    """Print the folder of a run's best adapter: by evaluation in the loop, else by its rollouts, else the last."""
    from trainer.runs import best_adapter

    found = _find(root, run)
    best = best_adapter(found)
    if best is None:
        raise ConfigError(f"the run {found.name} has no adapter on disk", hint="it has not saved one yet")
    if as_json:
        typer.echo(json.dumps(best.to_json(), sort_keys=True))
        return
    typer.echo(best.adapter.path)
    if best.peak_step is not None and best.peak_step != best.adapter.step:
        console().print(f"{best.metric} was best at step {best.peak_step}, whose adapter is not on disk any more")


@runs_app.command("merge")
def _merge(  # noqa: PLR0917 - options of the command line
    run: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the merged model; a new one.")],
    root: Root = None,
    adapter: AdapterPath = None,
    dtype: Annotated[str, typer.Option(help="auto (the base model's), bfloat16, float16 or float32.")] = "auto",
    as_json: Json = False,
) -> None:
    """Merge an adapter into its base model, in Hugging Face format; refused where the two do not say the same."""
    from trainer.outputs import merge_run

    report = merge_run(_find(root, run), output, adapter=adapter, dtype=dtype)
    document = {"output": str(output), **report.to_json()}
    typer.echo(json.dumps(document, sort_keys=True) if as_json else f"{output}: {report.text}")


@runs_app.command("push")
def _push(
    run: Name,
    repository: Annotated[str, typer.Argument(metavar="REPO", help="owner/name on the Hugging Face hub.")],
    root: Root = None,
    folder: Annotated[Path | None, typer.Option(help="A merged model, instead of the run's last adapter.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Anybody may see it; private without.")] = False,
) -> None:
    """Send a run's adapter, or a model merged from it, to the hub, with its card. The token is huggingface_hub's."""
    from trainer.outputs import push
    from trainer.runs import final_adapter

    found = _find(root, run)
    typer.echo(push(found, folder or final_adapter(found).path, repository, private=not public))


@runs_app.command("card")
def _card(run: Name, root: Root = None, adapter: AdapterPath = None) -> None:
    """Write the model card of a run's adapter anew, with the evaluations that have come since."""
    from trainer.model_card import write_card
    from trainer.runs import final_adapter

    found = _find(root, run)
    typer.echo(write_card(found, adapter or final_adapter(found).path))


@runs_app.command("prune")
def _prune(
    runs: Names,
    root: Root = None,
    whole: Annotated[bool, typer.Option("--whole", help="The whole folder, episodes and adapters too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it only what would go is shown.")] = False,
) -> None:
    """Delete the checkpoints of runs that have ended, but for the newest and the best; adapters and metrics stay."""
    from trainer.runs_prune import delete, to_prune

    total = 0
    for name in runs:
        for path, size in to_prune(_find(root, name), whole=whole):
            typer.echo(f"{'deleted' if yes else 'would go'}: {path} ({size / 1e6:.1f} MB)")
            total += size
            if yes:
                delete(path)
    typer.echo(f"{total / 1e6:.1f} MB" + ("" if yes else "; delete them with --yes"))


def _find(root: Path | None, name: str) -> Run:
    from trainer.runs import find_run

    return find_run(root, name)
