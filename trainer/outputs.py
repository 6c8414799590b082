"""What is left of a run: its adapter with a card, the merged model, and, only where asked for, both on the hub."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from envs.errors import BackendUnavailable, ConfigError
from trainer.config import TrainConfig, parse_config
from trainer.merge import MergeReport, merge_adapter
from trainer.model_card import public_name, write_card
from trainer.record import ADAPTER_RECORD
from trainer.runs import Run, final_adapter, read_run
from trainer.settings import ModelSettings

__all__ = ["finish_run", "merge_run", "push"]

_MERGE_REPORT = "merge.json"


def finish_run(config: TrainConfig, console: Console) -> Path:
    """Make ``adapter/`` with its card of a finished run and, where the recipe asks, merge and push. Gives ``adapter/``.

    Raises ConfigError where the merged model differs, or the hub refuses; BackendUnavailable where it does not answer.
    """
    folder = config.run.output_dir
    run = read_run(folder)
    last = final_adapter(run)
    target = folder / "adapter"
    if last.path != target:
        shutil.copytree(last.path, target)
        run = read_run(folder)
    write_card(run, target)
    result = target
    if config.output.merge:
        result = folder / "merged"
        shutil.rmtree(result, ignore_errors=True)  # of an earlier end of the same run
        report = merge_run(run, result, dtype=config.output.dtype)
        console.print(f"merged: {result}; {report.text}")
    if config.output.push is not None:
        console.print(push(run, result, config.output.push, private=not config.output.public))
    return target


def merge_run(run: Run, output: Path, *, adapter: Path | None = None, dtype: str = "auto") -> MergeReport:
    """Merge an adapter of a run (its last) into its base model: a new folder with a card. See ``merge_adapter``.

    Raises ConfigError, for a run that trained all weights too: it has nothing to merge.
    """
    chosen = adapter or final_adapter(run).path
    if run.config.get("lora", {}).get("full"):
        raise ConfigError(f"the run {run.name} trained all weights", hint=f"its model is whole already: {chosen}")
    if dtype not in ("auto", "bfloat16", "float16", "float32"):
        raise ConfigError(f"no merged model has the dtype {dtype!r}", hint="auto, bfloat16, float16 or float32")
    settings = parse_config({"model": _model(run)}, where=f"{run.folder}/config.json").model
    report = merge_adapter(settings, chosen, output, dtype=dtype)
    record = chosen / ADAPTER_RECORD
    if record.is_file():
        shutil.copyfile(record, output / ADAPTER_RECORD)
    (output / _MERGE_REPORT).write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    write_card(run, output, merged=report)
    return report


def push(run: Run, folder: Path, repository: str, *, private: bool = True) -> str:
    """Send a folder with a model or an adapter of the run to a repository of the hub, made where it is missing.

    The token and the endpoint are huggingface_hub's own (HF_TOKEN, HF_ENDPOINT). Records go without the recipe's
    addresses. Gives the repository's address. Raises ConfigError where the hub refuses, BackendUnavailable where it
    does not answer.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if not (folder / "README.md").is_file():
        write_card(run, folder)
    api = HfApi()
    with tempfile.TemporaryDirectory(prefix="envloop-push-") as staged:
        _stage(run, folder, Path(staged))
        try:
            address = str(api.create_repo(repository, private=private, exist_ok=True))
            api.upload_folder(repo_id=repository, folder_path=staged, commit_message=f"{run.recipe} at step {run.step}")
        except (HFValidationError, LocalTokenNotFoundError) as error:
            raise ConfigError(
                f"the hub takes no {repository!r}: {error}", hint="set HF_TOKEN, or hf auth login"
            ) from error
        except HfHubHTTPError as error:
            raise ConfigError(
                f"the hub refuses {repository!r}: HTTP {error.response.status_code}",
                hint="a token with write access to that namespace is needed (HF_TOKEN, or hf auth login)",
            ) from error
        except (httpx.HTTPError, OSError) as error:
            raise BackendUnavailable(f"the hub cannot be reached: {type(error).__name__}") from error
    return address


def _stage(run: Run, folder: Path, staged: Path) -> None:
    """Link the files that go out; those that name this machine are written anew."""
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        if path.name == ADAPTER_RECORD:
            document = json.loads(path.read_text(encoding="utf-8"))
            document.pop("config", None)  # addresses, stores and folders; the card tells the settings
            _write(staged / path.name, document)
        elif path.name == "adapter_config.json":
            document = json.loads(path.read_text(encoding="utf-8"))
            _write(staged / path.name, {**document, "base_model_name_or_path": public_name(run)})
        else:
            (staged / path.name).symlink_to(path.resolve())


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _model(run: Run) -> dict[str, Any]:
    known = ModelSettings.model_fields
    return {k: v for k, v in dict(run.config.get("model", {})).items() if k in known}
