"""Rules of the house that every file keeps: see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("envs", "rollout_server", "trainer")


def tracked(*patterns: str) -> list[Path]:
    """The files that git tracks, so that nothing generated is judged."""
    out = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, check=True, text=True)
    return [ROOT / name for name in out.stdout.split("\0") if name and (ROOT / name).is_file()]


def modules() -> list[Path]:
    return [p for p in tracked("*.py") if p.relative_to(ROOT).parts[0] in PACKAGES]


def test_no_file_above_400_lines() -> None:
    long = {str(p.relative_to(ROOT)): n for p in tracked("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def _exports(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == ["__all__"]:
            return [ast.literal_eval(element) for element in node.value.elts]  # type: ignore[attr-defined]
    return None


def _public(tree: ast.Module) -> set[str]:
    """Public names that a module defines itself."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.TypeAlias):
            names.add(node.name.id)
    return {name for name in names if not name.startswith("_")}


def importable() -> list[Path]:
    """Notebooks and migrations are scripts, not modules."""
    return [path for path in modules() if not {"notebooks", "versions"} & set(path.parts)]


@pytest.mark.parametrize("path", importable(), ids=lambda p: str(p.relative_to(ROOT)))
def test_all_names_what_is_exported(path: Path) -> None:
    tree = ast.parse(path.read_text())
    public, exported = _public(tree), _exports(tree)
    if not public and exported is None:
        return
    assert exported is not None, "a module with public names lists them in __all__"
    assert len(exported) == len(set(exported))
    assert public <= set(exported), "public but not in __all__: rename with an underscore, or export"
    defined = public | {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    defined |= {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    assert set(exported) <= defined, "in __all__ but not defined"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_evaluation_of_text_and_no_swallowed_exception(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile"}, f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"a bare except in line {node.lineno}"
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            assert not (_everything(caught) and _silent(node.body)), f"an exception is swallowed in line {node.lineno}"
        if isinstance(node, ast.Call) and _name(node.func) == "suppress":
            assert not _everything(node.args), f"an exception is swallowed in line {node.lineno}"


def _name(node: ast.expr) -> str:
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _everything(caught: list[ast.expr]) -> bool:
    return bool({"Exception", "BaseException"} & {_name(one) for one in caught})


def _silent(body: list[ast.stmt]) -> bool:
    """Nothing but ``pass``, ``continue``, ``...`` or a text."""
    return all(
        isinstance(one, ast.Pass | ast.Continue) or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
        for one in body
    )


def test_importing_envs_loads_no_heavy_library() -> None:
    code = (
        "import sys, envs, envs.registry, envs.cli; "
        "bad = {'torch', 'vllm', 'transformers', 'trl', 'pymysql', 'fastapi', 'textworld'} & set(sys.modules); "
        "print(sorted(bad))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_nothing_names_a_machine_or_a_registry() -> None:
    """Pins carry names, versions and hashes; no file carries a path of one machine or an index's address."""
    pattern = re.compile(r"--(extra-)?index-url|--find-links|/root/|/home/[a-z]+/|files\.pythonhosted|pypi\.org/simple")
    hits = []
    for path in tracked():
        if path == Path(__file__) or path.suffix == ".gz":
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if pattern.search(line) and "--no-emit" not in line:
                hits.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not hits
