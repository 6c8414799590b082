"""The notebooks run as scripts, in debug mode, against a real env server, and their exports as Jupyter runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from envs.server_process import ServerProcess, server_process

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "trainer" / "notebooks"
NAMES = ("dpo", "evaluate", "grpo_remote", "sft")
TOKEN, EXPERT = "notebook-token", "notebook-expert-token"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    settings = {"ENVLOOP_TOKEN": TOKEN, "ENVLOOP_EXPERT_TOKEN": EXPERT, "ENVLOOP_ENV_ENVS": "alfworld"}
    with server_process(env=settings) as running:
        yield running


def run(name: str, output: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The notebook as a script, with no other envloop settings than these."""
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("ENVLOOP_", "DBBENCH_", "ALFWORLD_", "COLAB_"))
    }
    settings = {"ENVLOOP_DEBUG_NOTEBOOK": "1", "ENVLOOP_OUTPUT": str(output), "HF_HUB_OFFLINE": "1", **env}
    return subprocess.run(
        [sys.executable, str(NOTEBOOKS / f"{name}.py")],
        cwd=output.parent, env=inherited | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_grpo_trains_on_a_remote_server(server: ServerProcess, tmp_path: Path) -> None:
    output = tmp_path / "run"
    done = run("grpo_remote", output, ENVLOOP_ENV_URL=server.url, ENVLOOP_TOKEN=TOKEN)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1, 2]
    record = json.loads((output / "run.json").read_text())
    assert "alfworld/generated" in json.dumps(record)
    assert sorted(p.name for p in (output / "policies").iterdir() if p.is_dir()) == ["run-v1", "run-v2"]
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.slow
def test_grpo_goes_on_where_it_was_when_run_again(server: ServerProcess, tmp_path: Path) -> None:
    output, settings = tmp_path / "run", {"ENVLOOP_ENV_URL": server.url, "ENVLOOP_TOKEN": TOKEN}
    assert run("grpo_remote", output, **settings).returncode == 0
    before = (output / "metrics.jsonl").read_text()
    again = run("grpo_remote", output, **settings)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (output / "metrics.jsonl").read_text() == before, "all steps were done: nothing is trained again"


def test_grpo_says_at_once_that_the_token_is_wrong(server: ServerProcess, tmp_path: Path) -> None:
    done = run("grpo_remote", tmp_path / "run", ENVLOOP_ENV_URL=server.url, ENVLOOP_TOKEN="not-the-token")
    assert done.returncode != 0
    assert "a valid bearer token is needed" in done.stderr
    assert not (tmp_path / "run").exists()


def test_sft_learns_the_expert_s_episodes(server: ServerProcess, tmp_path: Path) -> None:
    output = tmp_path / "run"
    done = run("sft", output, ENVLOOP_ENV_URL=server.url, ENVLOOP_EXPERT_TOKEN=EXPERT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (output / "adapter" / "adapter_model.safetensors").is_file()
    assert "the expert played 4 tasks and solved 4" in done.stderr


def test_dpo_shows_its_pairs_and_learns_them(server: ServerProcess, tmp_path: Path) -> None:
    output = tmp_path / "run"
    done = run("dpo", output, ENVLOOP_ENV_URL=server.url, ENVLOOP_EXPERT_TOKEN=EXPERT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (output / "adapter" / "adapter_model.safetensors").is_file()
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1, 2]
    assert all("rewards/margins" in row for row in steps)
    assert EXPERT not in done.stdout + done.stderr


def test_an_evaluation_is_played_once_and_told(server: ServerProcess, tmp_path: Path) -> None:
    output, settings = tmp_path / "run", {"ENVLOOP_ENV_URL": server.url, "ENVLOOP_TOKEN": TOKEN}
    for _ in range(2):
        done = run("evaluate", output, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((output / "eval-alfworld-generated_eval.json").read_text())
    assert (report["episodes"], report["resumed"]) == (4, 4), "the second time nothing is played again"


@pytest.mark.slow
def test_an_adapter_is_compared_with_the_model_without_it(server: ServerProcess, tmp_path: Path) -> None:
    tokens = {"ENVLOOP_ENV_URL": server.url, "ENVLOOP_EXPERT_TOKEN": EXPERT, "ENVLOOP_TOKEN": TOKEN}
    assert run("sft", tmp_path / "sft", **tokens).returncode == 0
    done = run("evaluate", tmp_path / "run", **tokens, ENVLOOP_ADAPTER=str(tmp_path / "sft" / "adapter"))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "run" / "eval-alfworld-generated_eval.json").read_text())
    assert report["comparison"]["paired"]["overall"]["pairs"] == 4


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nbformat.NotebookNode]:
    folder = tmp_path_factory.mktemp("ipynb")
    env = os.environ | {"MARIMO": str(Path(sys.executable).with_name("marimo"))}
    subprocess.run(
        [str(ROOT / "scripts" / "export_to_ipynb.sh"), str(folder)], env=env, check=True, capture_output=True
    )
    return {path.stem: nbformat.read(path, as_version=4) for path in folder.glob("*.ipynb")}


def test_the_export_is_valid_and_runs_in_order(exported: dict[str, nbformat.NotebookNode]) -> None:
    assert set(exported) == {path.stem for path in NOTEBOOKS.glob("*.py")} == set(NAMES)
    for book in exported.values():
        nbformat.validate(book)
        code = [cell.source for cell in book.cells if cell.cell_type == "code"]
        installs = next(i for i, source in enumerate(code) if "pip" in source)
        assert not any("import marimo" in source or "import trainer" in source for source in code[:installs])
        assert book.cells[0].cell_type == "markdown"


def execute(book: nbformat.NotebookNode, output: Path, **env: str) -> None:
    """As Jupyter does: every cell in its order, in a kernel of its own, with no other envloop settings than these."""
    settings = {"ENVLOOP_DEBUG_NOTEBOOK": "1", "ENVLOOP_OUTPUT": str(output), "HF_HUB_OFFLINE": "1", **env}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ENVLOOP_", "DBBENCH_", "ALFWORLD_", "COLAB_"))}
    client = NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(output.parent)}}
    )
    client.execute(env=kept | settings)


def test_an_export_executes_as_jupyter_runs_it(
    exported: dict[str, nbformat.NotebookNode], server: ServerProcess, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    execute(exported["evaluate"], output, ENVLOOP_ENV_URL=server.url, ENVLOOP_TOKEN=TOKEN)
    assert json.loads((output / "eval-alfworld-generated_eval.json").read_text())["episodes"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft", "grpo_remote", "dpo"])
def test_every_export_executes(
    exported: dict[str, nbformat.NotebookNode], server: ServerProcess, tmp_path: Path, name: str
) -> None:
    output = tmp_path / "run"
    tokens = {"ENVLOOP_ENV_URL": server.url, "ENVLOOP_EXPERT_TOKEN": EXPERT, "ENVLOOP_TOKEN": TOKEN}
    execute(exported[name], output, **tokens)
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1, 2]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_declares_what_it_needs_and_defines_no_logic(name: str) -> None:
    text = (NOTEBOOKS / f"{name}.py").read_text()
    assert "# /// script" in text
    assert "envloop[train" in text
    assert "def " not in text.replace("def _(", ""), "functions belong into the packages"
    assert "class " not in text
