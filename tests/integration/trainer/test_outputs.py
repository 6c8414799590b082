"""What a run makes of its adapter: the merged model says what the adapter says, its card tells where it is from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from run_folders import make_run
from trainer_doubles import ScriptedRollouts
from typer.testing import CliRunner

from envs.errors import ConfigError
from trainer import merge
from trainer.cli import train_app
from trainer.config import TrainConfig, parse_config
from trainer.grpo import train_grpo
from trainer.loops import LoopThread
from trainer.merge import merge_adapter
from trainer.outputs import finish_run, merge_run
from trainer.runs import read_run
from trainer.settings import ModelSettings
from trainer.status import RunState

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "tok-for-the-hub"


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes much of what the tiny model says."""
    from contract.engine_contract import make_adapter

    return make_adapter(tiny_model, tmp_path_factory.mktemp("adapter") / "adapter", seed=1, scale=0.3)


def run_with(adapter: Path, model: Path, folder: Path) -> Path:
    made = make_run(
        folder, success=[0.1, 0.4], tree={"model": {"name": str(model)}, "rollout": {"store": "mysql://u:hunter2@h/d"}}
    )
    adapter_folder = made / "adapter"
    adapter_folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter_folder / name).write_bytes((adapter / name).read_bytes())
    record = json.loads((made / "run.json").read_text())
    (adapter_folder / "training_record.json").write_text(json.dumps({**record, "step": 2, "policy": "p-v2"}))
    return made


def test_the_merged_model_says_what_the_adapter_says(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    report = merge_adapter(ModelSettings(name=str(tiny_model)), adapter, tmp_path / "merged", device="cpu")
    assert report.dtype == "float32"
    assert report.error < 1e-5 < 0.05 < report.effect
    assert report.modules == 10
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    adapted = PeftModel.from_pretrained(base, str(adapter)).eval()
    ids = torch.tensor([tokenizer("another text than the one that the merge looked at").input_ids])
    with torch.inference_mode():
        assert torch.allclose(merged(ids).logits, adapted(input_ids=ids).logits, atol=1e-4)
        with adapted.disable_adapter():
            assert not torch.allclose(merged(ids).logits, adapted(input_ids=ids).logits, atol=1e-2)
    assert not hasattr(merged, "peft_config")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(tiny_model).chat_template
    assert (tmp_path / "merged/generation_config.json").is_file()
    with pytest.raises(ConfigError, match="is there already"):
        merge_adapter(ModelSettings(name=str(tiny_model)), adapter, tmp_path / "merged")


def test_bfloat16_is_cast_once_from_a_sum_in_float32(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for dtype in ("float32", "bfloat16"):
        merge_adapter(ModelSettings(name=str(tiny_model)), adapter, tmp_path / dtype, dtype=dtype, device="cpu")
    # The base weights are rounded when they are loaded in 16 bits; the sum with the update is rounded once.
    base = load_file(tiny_model / "model.safetensors")
    whole, half = (load_file(tmp_path / dtype / "model.safetensors") for dtype in ("float32", "bfloat16"))
    name = "model.layers.0.self_attn.q_proj.weight"
    update = whole[name] - base[name]
    expected = (base[name].bfloat16().float() + update).bfloat16()
    assert half[name].dtype == torch.bfloat16
    assert (half[name] != expected).float().mean() < 0.01


def test_an_update_that_rounding_swallows_is_told(tiny_model: Path, tmp_path: Path) -> None:
    from contract.engine_contract import make_adapter

    small = make_adapter(tiny_model, tmp_path / "small", seed=1, scale=1e-4)
    half, whole = (
        merge_adapter(ModelSettings(name=str(tiny_model)), small, tmp_path / dtype, dtype=dtype, device="cpu")
        for dtype in ("bfloat16", "float32")
    )
    assert (half.lost, whole.lost) == (True, False)
    assert "lost to rounding" in half.text
    assert "lost" not in whole.text


@pytest.mark.parametrize("fault", ["left out", "added twice", "one layer missing"])
def test_a_wrong_merge_is_refused_and_leaves_nothing(
    fault: str, tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = merge._add_deltas

    def wrong(model: Any) -> int:
        if fault == "left out":
            return 10
        if fault == "added twice":
            right(model)
            return right(model)
        return right(model) - 1

    monkeypatch.setattr(merge, "_add_deltas", wrong)
    with pytest.raises(ConfigError, match="does not say what"):
        merge_adapter(ModelSettings(name=str(tiny_model)), adapter, tmp_path / "merged", device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_finished_run_has_its_adapter_its_merged_model_and_its_status(
    tiny_model: Path, tmp_path: Path, rollouts: ScriptedRollouts, loop: LoopThread
) -> None:
    config = parse_config(
        {
            "model": {"name": str(tiny_model), "dtype": "float32", "device": "cpu", "gradient_checkpointing": False},
            "lora": {"r": 4, "alpha": 8},
            "data": {"sources": [{"env": "alfworld", "split": "generated"}]},
            "rollout": {"group_size": 2, "groups_per_step": 2, "max_tokens": 16},
            "grpo": {"steps": 2, "learning_rate": 1e-2, "micro_batch": 4},
            "run": {"output_dir": str(tmp_path / "run"), "name": "mine", "report_to": ["jsonl"], "samples_every": 1},
            "output": {"merge": True},
        }
    )
    train_grpo(config, service=rollouts, loop=loop)
    finish_run(config, Console(quiet=True))
    run = read_run(tmp_path / "run")
    assert (run.status.state, run.step, run.status.steps) == (RunState.FINISHED, 2, 2)
    assert run.adapter is not None
    assert run.adapter.step == 2
    same = [(tmp_path / "run" / p / "adapter_model.safetensors").read_bytes() for p in ("adapter", "policies/mine-v2")]
    assert same[0] == same[1]
    assert sorted(p.name for p in (tmp_path / "run/samples").iterdir()) == ["step-1.md", "step-2.md"]
    card = (tmp_path / "run/merged/README.md").read_text()
    assert 'library_name: "transformers"' in card
    assert "Merging: 14 layers" in card
    finish_run(config, Console(quiet=True))  # again, as after a resume


def test_a_run_that_fails_says_so(
    tiny_model: Path, tmp_path: Path, rollouts: ScriptedRollouts, loop: LoopThread
) -> None:
    config = parse_config({"model": {"name": str(tmp_path / "none")}, "run": {"output_dir": str(tmp_path / "run")}})
    with pytest.raises(ConfigError):
        train_grpo(config, service=rollouts, loop=loop)
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["state"] == "failed"
    assert "ConfigError" in status["error"]


def test_a_card_tells_base_data_settings_figures_and_use_and_nothing_private(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard

    folder = run_with(adapter, tiny_model, tmp_path / "run")
    record = json.loads((folder / "adapter/training_record.json").read_text())
    (folder / "adapter/training_record.json").write_text(
        json.dumps({**record, "allow_eval_split": ["alfworld/valid_seen"]})
    )
    report = {"schema": "envloop.eval_report/1", "env": "alfworld", "split": "valid_unseen", "policy": "p-v2",
              "episodes": 134, "overall": {"success": 0.5, "low": 0.4, "high": 0.6, "episodes": 134}}  # fmt: skip
    (folder / "eval-alfworld-valid_unseen.json").write_text(json.dumps(report))
    from trainer.model_card import write_card

    path = write_card(read_run(folder), folder / "adapter")
    card = ModelCard.load(path)
    assert (card.data.base_model, card.data.library_name) == (tiny_model.name, "peft")
    assert {"envloop", "grpo", "lora", "alfworld"} <= set(card.data.tags)
    assert card.data.license is None
    for said in (
        *("| alfworld/generated | 3 |", "Evaluation splits were allowed for training: alfworld/valid_seen"),
        *("| rollout/success | 0.4 | 0.4 |", "| alfworld/valid_unseen | p-v2 | 0.500 | 0.400 to 0.600 | 134 |"),
        *("| torch |", f"vllm serve {tiny_model.name} --enable-lora --max-lora-rank", "PeftModel.from_pretrained"),
    ):
        assert said in card.text
    assert "hunter2" not in card.content
    assert str(tmp_path) not in card.content
    (tiny_model / "README.md").write_text("---\nlicense: mit\n---\n")
    try:
        assert ModelCard.load(write_card(read_run(folder), folder / "adapter")).data.license == "mit"
    finally:
        (tiny_model / "README.md").unlink()


def test_all_weights_have_nothing_to_merge(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "a", recipe="sft", metrics={"loss": [1.0]}, checkpoints=[1], tree={"lora": {"full": True}}
    )
    with pytest.raises(ConfigError, match="trained all weights"):
        merge_run(read_run(folder), tmp_path / "merged")
    with pytest.raises(ConfigError, match=r"output\.merge"):
        parse_config({"recipe": "sft", "lora": {"full": True}, "output": {"merge": True}})


@pytest.mark.parametrize(
    ("recipe", "options", "merge_and_push"),
    [("grpo", ["--merge"], (True, None)), ("sft", ["--push", "me/mine"], (False, "me/mine"))],
)
def test_the_commands_options_reach_the_outputs(
    recipe: str, options: list[str], merge_and_push: tuple[bool, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.grpo import GrpoResult
    from trainer.sft import SftResult

    seen: list[TrainConfig] = []
    done = GrpoResult(Path("o"), steps=1) if recipe == "grpo" else SftResult(Path("o"), Path("a"), 0, {}, steps=1)
    monkeypatch.setattr(f"trainer.{recipe}.train_{recipe}", lambda config, console: done)
    monkeypatch.setattr("trainer.outputs.finish_run", lambda config, console: seen.append(config))
    config = str(ROOT / f"configs/{recipe}-smollm2-cpu.toml")
    assert CliRunner().invoke(train_app, [recipe, "--config", config, *options]).exit_code == 0
    assert (seen[0].output.merge, seen[0].output.push) == merge_and_push
    wrong = CliRunner().invoke(train_app, [recipe, "--config", config, "--push", "nowhere"])
    assert isinstance(wrong.exception, ConfigError)
    assert "output.push" in str(wrong.exception)


# --- the hub -----------------------------------------------------------------------------------------------------


class StubHub(BaseHTTPRequestHandler):
    """A stub of the hub's HTTP API, as far as an upload of small files needs it; it keeps what it was sent."""

    seen: list[tuple[str, str, bytes]]
    refuse = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.seen.append((self.path, self.headers.get("Authorization", ""), body))
        here = f"http://127.0.0.1:{self.server.server_address[1]}"
        if self.refuse:
            self._answer(403, {"error": "no write access"})
        elif self.path == "/api/repos/create":
            self._answer(200, {"url": f"{here}/me/mine"})
        elif self.path.endswith("/preupload/main"):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        elif "/commit/" in self.path:
            self._answer(200, {"success": True, "commitUrl": f"{here}/me/mine/commit/abc", "commitOid": "abc"})
        else:
            self._answer(200, {"errors": [], "warnings": []})

    def do_GET(self) -> None:
        self._answer(200, {"id": "me/mine", "sha": "0" * 40, "siblings": []})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def hub() -> Iterator[tuple[str, type[StubHub]]]:
    handler = type("Handler", (StubHub,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()


def push(folder: Path, endpoint: str, home: Path) -> subprocess.CompletedProcess[str]:
    """As a user does: the token and the endpoint are huggingface_hub's own variables, read where it is imported."""
    return subprocess.run(
        [sys.executable, "-m", "envs.cli", "runs", "push", str(folder), "me/mine"],
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_push_sends_adapter_and_card_to_a_private_repository_and_nothing_private(
    tiny_model: Path, adapter: Path, tmp_path: Path, hub: tuple[str, type[StubHub]]
) -> None:
    endpoint, handler = hub
    folder = run_with(adapter, tiny_model, tmp_path / "run")
    done = push(folder, endpoint, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/me/mine")
    paths = [path for path, _, _ in handler.seen]
    made = json.loads(handler.seen[paths.index("/api/repos/create")][2])
    assert made.get("visibility") == "private" or made.get("private") is True, made
    assert {auth for _, auth, _ in handler.seen} == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout + done.stderr
    import base64

    commit = next(body for path, _, body in handler.seen if "/commit/" in path)
    lines = [json.loads(line) for line in commit.decode().splitlines()]
    files = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
    assert set(files) == {"README.md", "adapter_config.json", "adapter_model.safetensors", "training_record.json"}
    assert files["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").read_bytes()
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == tiny_model.name
    sent = b"".join(files[name] for name in files if name != "adapter_model.safetensors").decode()
    assert "hunter2" not in sent
    assert str(tmp_path) not in sent
    assert json.loads(files["training_record.json"])["splits"] == ["alfworld/generated"]


def test_a_hub_that_refuses_is_told_in_words(
    tiny_model: Path, adapter: Path, tmp_path: Path, hub: tuple[str, type[StubHub]]
) -> None:
    endpoint, handler = hub
    handler.refuse = True
    done = push(run_with(adapter, tiny_model, tmp_path / "run"), endpoint, tmp_path / "home")
    assert done.returncode != 0
    assert "the hub refuses 'me/mine': HTTP 403" in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr
