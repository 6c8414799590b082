"""The model card of what a run made: a README.md with the hub's front matter, from nothing but the run's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rollout_server.replay_view import visible
from trainer.merge import MergeReport
from trainer.record import ADAPTER_RECORD
from trainer.runs import Run, best_adapter, curves_of
from trainer.shown_settings import set_settings

__all__ = ["base_license", "model_card", "public_name", "write_card"]

_SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
_RECIPES = {
    "grpo": "GRPO with the environment in the loop",
    "sft": "supervised fine-tuning on played episodes",
    "dpo": "DPO on pairs of played episodes",
    "kto": "KTO on played episodes",
    "ppo": "PPO with the environment in the loop",
}


def public_name(run: Run) -> str:
    """The base model's name as others know it: a hub name, or of a folder its last part."""
    return _SMOLLM2 if run.model == "smollm2" else run.model


def base_license(run: Run) -> str | None:
    """The base model's licence as its own card says, where that lies on this disk. None: not known here."""
    source = str(run.config.get("model", {}).get("name", ""))
    if source == "smollm2":
        return "apache-2.0"  # NOTICE
    card = Path(source) / "README.md"
    if not card.is_file():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            cached = try_to_load_from_cache(source, "README.md")
        except HFValidationError:
            return None
        if not isinstance(cached, str):
            return None
        card = Path(cached)
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    front = lines[1 : lines.index("---", 1)] if "---" in lines[1:] else []
    return next((x.partition(":")[2].strip().strip("'\"") for x in front if x.startswith("license:")), None) or None


def write_card(run: Run, folder: Path, *, merged: MergeReport | None = None) -> Path:
    """Write the card of the adapter or the model in ``folder``, and give its path."""
    if merged is None and (folder / "merge.json").is_file():
        merged = MergeReport(**json.loads((folder / "merge.json").read_text(encoding="utf-8")))
    record = json.loads((folder / ADAPTER_RECORD).read_text()) if (folder / ADAPTER_RECORD).is_file() else run.record
    path = folder / "README.md"
    path.write_text(model_card(run, record, merged=merged), encoding="utf-8")
    return path


def model_card(run: Run, record: Any, *, merged: MergeReport | None = None) -> str:
    """The card's text. ``record``: the training record of the weights; ``merged``: how they became a whole model."""
    whole = merged is not None or bool(run.config.get("lora", {}).get("full"))
    base = public_name(run)
    license_ = base_license(run)
    step = int(record.get("step", run.step))
    front: dict[str, Any] = {
        "base_model": base,
        **({"license": license_} if license_ else {}),
        "library_name": "transformers" if whole else "peft",
        "pipeline_tag": "text-generation",
        "tags": [
            "envloop",
            run.recipe,
            *([] if whole else ["lora"]),
            *sorted({s.split("/")[0] for s in _splits(record)}),
        ],
    }
    title = str(record.get("policy") or f"{run.folder.name}, step {step}")
    what = (
        "All weights"
        if whole and merged is None
        else "The adapter merged into its base model"
        if whole
        else "A LoRA adapter"
    )
    parts = [
        "---\n" + "".join(_yaml(k, v) for k, v in front.items()) + "---",
        f"# {visible(title)}",
        f"{what} of {base}, made by {_RECIPES.get(run.recipe, run.recipe)}, {step} optimizer steps.",
        "" if license_ else f"Its licence is that of {base}; see there.",
        _data(record),
        _figures(run, merged),
        "## Settings\n\nWhat differs from the recipe's defaults:\n\n" + _table(("setting", "value"), _settings(run)),
        "## Versions\n\n" + _table(("package", "version"), sorted(dict(record.get("versions", {})).items())),
        _use(base, merged_or_full=whole, rank=int(run.config.get("lora", {}).get("r", 64))),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _splits(record: Any) -> list[str]:
    return [str(s) for s in record.get("splits", ())]


def _data(record: Any) -> str:
    tasks: dict[str, Any] = dict(record.get("tasks", {}))
    rows = []
    for split in _splits(record):
        env, _, name = split.partition("/")
        seen = sum(t.get("env") == env and t.get("split") == name for t in tasks.values())
        rows.append((split, seen))
    text = f"## Data\n\n{record.get('episodes', 0)} episodes, of these tasks:\n\n" + _table(("split", "tasks"), rows)
    if allowed := record.get("allow_eval_split"):
        text += (
            f"\n\n**Evaluation splits were allowed for training: {', '.join(allowed)}.** Results on them say nothing "
            "about unseen tasks."
        )
    return text + f"\n\nEvery task, with its content hash: `{ADAPTER_RECORD}`."


def _figures(run: Run, merged: MergeReport | None) -> str:
    rows = []
    for name in curves_of([run]):
        values = [float(m[name]) for m in run.metrics if isinstance(m.get(name), int | float)]
        best = min(values) if name in ("loss", "grad_norm", "kl", "mismatch/kl") else max(values)
        rows.append((name, f"{values[-1]:.4g}", f"{best:.4g}"))
    text = "## Figures\n\n"
    text += _table(("metric in training", "last", "best"), rows) if rows else "The run kept no metrics."
    best_one = best_adapter(run)
    if best_one is not None and best_one.metric:
        text += f"\n\nBest by {best_one.metric}: step {best_one.adapter.step}, {best_one.value:.3f}."
    if run.evaluations:
        judged: list[tuple[Any, ...]] = []
        for e in run.evaluations:
            overall = e.get("overall") or {}
            low, high = overall.get("low"), overall.get("high")
            interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
            success = f"{overall['success']:.3f}" if overall.get("success") is not None else ""
            judged.append(
                (f"{e.get('env')}/{e.get('split')}", e.get("policy", ""), success, interval, e.get("episodes", ""))
            )
        heads = ("evaluation", "policy", "success", "95 % interval", "episodes")
        text += "\n\n" + _table(heads, judged)
    if merged is not None:
        text += f"\n\nMerging: {merged.text}."
    return text


def _settings(run: Run) -> list[tuple[str, str]]:
    return [(name, json.dumps(value)) for name, value in sorted(set_settings(run.config).items())]


def _use(base: str, *, merged_or_full: bool, rank: int) -> str:
    if merged_or_full:
        return (
            "## Use\n\n```\nvllm serve THIS_REPOSITORY --generation-config vllm\n```\n\n"
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("THIS_REPOSITORY", dtype="auto")\n'
            'tokenizer = AutoTokenizer.from_pretrained("THIS_REPOSITORY")\n```'
        )
    return (
        f"## Use\n\n```\nvllm serve {base} --enable-lora --max-lora-rank {rank} \\\n"
        "    --lora-modules policy=THIS_REPOSITORY\n```\n\n"
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{base}", dtype="auto")\n'
        'model = PeftModel.from_pretrained(base, "THIS_REPOSITORY")\n```'
    )


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += [
        "| " + " | ".join(visible(str(cell)).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
        for row in rows
    ]
    return "\n".join(lines)


def _yaml(key: str, value: Any) -> str:
    """A line of front matter; JSON's strings and lists are YAML's."""
    if isinstance(value, list):
        return f"{key}:\n" + "".join(f"- {json.dumps(item)}\n" for item in value)
    return f"{key}: {json.dumps(value)}\n"
