"""What the Dockerfiles and compose.yaml promise, read from the files themselves: this runs without a Docker engine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = {"envs": "base.txt", "rollout": "gpu.txt", "train": "train.txt"}
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|DBBENCH_URL|STORE_URL")


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile in order, continuation lines joined, comments left out."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def test_there_is_one_dockerfile_a_service() -> None:
    assert {p.stem for p in DOCKERFILES} == set(OWN)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.stem)
class TestDockerfile:
    def test_bases_are_arguments_with_a_pinned_default(self, path: Path) -> None:
        steps = instructions(path)
        bases = [rest.split()[0] for word, rest in steps if word == "FROM"]
        assert bases == ["${PYTHON_IMAGE}"] * 2
        assert steps[0] == ("ARG", "PYTHON_IMAGE=python:3.12-slim")

    def test_needs_no_frontend_from_a_registry(self, path: Path) -> None:
        assert not re.search(r"^#\s*syntax\s*=", path.read_text(), re.MULTILINE)

    def test_runs_as_a_numbered_user_without_rights(self, path: Path) -> None:
        steps = instructions(path)
        final = steps[max(i for i, (word, _) in enumerate(steps) if word == "FROM") :]
        users = [rest for word, rest in final if word == "USER"]
        assert users == ["10001:10001"]
        after = final[[word for word, _ in final].index("USER") :]
        assert not {word for word, _ in after} & {"RUN", "COPY", "ADD"}

    def test_says_how_healthy_it_is(self, path: Path) -> None:
        checks = [rest for word, rest in instructions(path) if word == "HEALTHCHECK"]
        assert len(checks) == 1
        if path.stem == "train":
            assert checks == ["NONE"]
        else:
            port = next(rest for word, rest in instructions(path) if word == "EXPOSE")
            assert f"http://127.0.0.1:{port}/readyz" in checks[0]

    def test_installs_pinned_wheels_with_their_hashes(self, path: Path) -> None:
        runs = [rest for word, rest in instructions(path) if word == "RUN"]
        installs = [part for run in runs for part in re.split(r"&&|;", run) if "pip install" in part]
        assert installs
        for install in installs:
            local = "--no-deps --no-index /tmp/wheel/" in install
            assert local or "--require-hashes" in install, install
        assert (
            f"requirements/{OWN[path.stem]}" in path.read_text() or f"REQUIREMENTS={OWN[path.stem]}" in path.read_text()
        )

    def test_holds_no_secret(self, path: Path) -> None:
        for word, rest in instructions(path):
            if word in {"ENV", "ARG", "LABEL"}:
                assert not SECRET.search(rest.split("=")[0]), rest
            if word == "COPY":
                assert ".env" not in rest.split()
                assert not rest.startswith(". "), "copies named parts only"
        mounts = re.findall(r"--mount=type=secret\S+", path.read_text())
        assert len(mounts) == 2
        assert not any("required" in mount for mount in mounts), "the same file builds where there is no mirror"

    def test_what_it_copies_exists_and_is_sent(self, path: Path) -> None:
        allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        for word, rest in instructions(path):
            if word != "COPY" or rest.startswith("--from"):
                continue
            for source in rest.split()[:-1]:
                name = source.replace("${REQUIREMENTS}", "gpu.txt")
                assert (ROOT / name).exists(), name
                assert any(Path(name).match(pattern) for pattern in allowed), f"{name} is left out by .dockerignore"


def test_every_hash_of_the_build_backend_is_pinned() -> None:
    lines = (ROOT / "docker" / "build.txt").read_text().splitlines()
    names = [i for i, line in enumerate(lines) if re.match(r"[a-z]", line)]
    assert names
    assert all("==" in lines[i] and "--hash=sha256:" in lines[i + 1] for i in names)


def test_profiles() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles == {
        "keys": [], "db": [], "envs": [], "rollout": ["rollout"], "tunnel-check": ["tunnel"], "tunnel": ["tunnel"],
    }  # fmt: skip


def test_only_loopback_is_published_unless_asked_and_never_the_database() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"envs", "rollout"}
    for ports in published.values():
        assert all(re.match(r"\$\{ENVLOOP_BIND:-127\.0\.0\.1\}:", port) for port in ports)
    assert SERVICES["db"]["networks"] == ["database"]
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert [name for name, service in SERVICES.items() if "database" in service.get("networks", [])] == ["db", "envs"]


def test_no_service_uses_the_host_or_more_rights_than_none() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        forbidden = {"privileged", "cap_add", "pid", "ipc", "devices", "userns_mode"} & set(service)
        assert not forbidden, name
        assert service.get("network_mode") in (None, "none"), name
        assert not any("docker.sock" in volume for volume in service.get("volumes", [])), name


def test_images_that_are_not_ours_run_as_a_numbered_user() -> None:
    users = {name: service.get("user") for name, service in SERVICES.items() if "build" not in service}
    assert users == {"db": "999:999", "tunnel": "65532:65532"}


def test_images_are_pinned_and_can_be_replaced() -> None:
    for name, service in SERVICES.items():
        image = service["image"]
        assert not image.endswith(":latest"), name
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        else:
            assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[\w./-]+:\d[\w.]*\}", image), name


def test_secrets_come_from_the_environment_or_from_files_only() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key) and value and not key.endswith("_FILE"):
                assert re.fullmatch(r"\$\{[A-Z_]+:-\}", value), f"{name}.{key}"
            if key.endswith("_FILE"):
                assert value.startswith("/run/envloop/"), f"{name}.{key}"


def test_every_service_is_bounded() -> None:
    for name, service in SERVICES.items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"memory", "pids"} <= set(limits), name
        assert "logging" in service, name
    assert any(re.match(r"/var/lib/mysql:size=", mount) for mount in SERVICES["db"]["tmpfs"]), "the data is capped"
    assert not any("/var/lib/mysql" in volume for volume in SERVICES["db"]["volumes"])


def test_services_start_in_the_order_of_their_health_and_come_back() -> None:
    after = {name: {k: v["condition"] for k, v in s.get("depends_on", {}).items()} for name, s in SERVICES.items()}
    done, healthy = "service_completed_successfully", "service_healthy"
    assert after["envs"] == {"keys": done, "db": healthy}
    assert after["db"] == {"keys": done}
    assert after["rollout"] == {"keys": done, "envs": healthy}
    assert after["tunnel"] == {"tunnel-check": done, "envs": healthy}
    once = {"keys", "tunnel-check"}
    for name, service in SERVICES.items():
        assert service["restart"] == ("no" if name in once else "unless-stopped"), name
        checked = "test" in service.get("healthcheck", {}) or name in {"envs", "rollout"}  # theirs is in the image
        assert checked or service["healthcheck"] == {"disable": True}, name


def test_the_context_sends_what_is_named_and_nothing_else() -> None:
    lines = [x for x in (ROOT / ".dockerignore").read_text().splitlines() if x and not x.startswith("#")]
    assert lines[0] == "*"
    assert "**/.env" in lines


class TestEntrypoint:
    """docker/entrypoint.sh, run as it is."""

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ROOT / "docker" / "entrypoint.sh"), *command],
            env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def test_reads_a_secret_from_its_file(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("a b'$(id)\"c")
        result = self.run(
            "sh", "-c", 'printf %s "$ENVLOOP_TOKEN"', ENVLOOP_TOKEN="", ENVLOOP_TOKEN_FILE=f"{tmp_path}/token"
        )
        assert (result.returncode, result.stdout) == (0, "a b'$(id)\"c")

    def test_the_variable_wins_over_its_file(self, tmp_path: Path) -> None:
        (tmp_path / "url").write_text("mysql://file")
        result = self.run("printenv", "DBBENCH_URL", DBBENCH_URL="mysql://given", DBBENCH_URL_FILE=f"{tmp_path}/url")
        assert result.stdout == "mysql://given\n"

    def test_an_empty_variable_is_unset(self) -> None:
        assert self.run("printenv", "ENVLOOP_EXPERT_TOKEN", ENVLOOP_EXPERT_TOKEN="").returncode == 1

    def test_a_missing_file_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        result = self.run("true", ENVLOOP_TOKEN_FILE=f"{tmp_path}/none")
        assert result.returncode == 1
        assert "ENVLOOP_TOKEN_FILE" in result.stderr
        assert f"{tmp_path}/none" in result.stderr

    def test_an_empty_data_folder_means_generated_games(self, tmp_path: Path) -> None:
        empty = self.run("printenv", "ALFWORLD_DATA", ALFWORLD_DATA=str(tmp_path))
        assert empty.returncode == 1
        assert "generated games only" in empty.stderr
        (tmp_path / "json_2.1.1").mkdir()
        assert self.run("printenv", "ALFWORLD_DATA", ALFWORLD_DATA=str(tmp_path)).stdout == f"{tmp_path}\n"


class TestKeys:
    """docker/make-keys.sh, run as it is."""

    def run(self, db: Path, server: Path) -> dict[str, str]:
        db.mkdir(exist_ok=True)
        server.mkdir(exist_ok=True)
        subprocess.run([str(ROOT / "docker" / "make-keys.sh"), str(db), str(server)], check=True, capture_output=True)
        return {file.name: file.read_text() for folder in (db, server) for file in folder.iterdir()}

    def test_draws_at_random_once(self, tmp_path: Path) -> None:
        first = self.run(tmp_path / "db", tmp_path / "server")
        assert set(first) == {"password", "url", "token"}
        assert first["url"] == f"mysql://root:{first['password']}@db:3306"
        assert len({first["password"], first["token"]}) == 2
        assert min(len(first["password"]), len(first["token"])) >= 32
        assert self.run(tmp_path / "db", tmp_path / "server") == first
        other = self.run(tmp_path / "db2", tmp_path / "server2")
        assert other["password"] != first["password"]
        assert other["token"] != first["token"]
