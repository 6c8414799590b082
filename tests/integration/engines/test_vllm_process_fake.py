"""When vLLM's process sleeps and wakes, what may reach it meanwhile, and its end: with a fake named as such."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from envs.errors import BackendUnavailable, ConfigError
from rollout_server.engines.base import GenerationRequest
from rollout_server.engines.vllm_process import VllmProcessEngine
from rollout_server.engines.vllm_server import child_environment
from rollout_server.tokenizer import ByteTokenizer
from rollout_server.types import PolicyVersion, SamplingParams
from trainer.shared_gpu import AwakeWhilePlaying

TESTS = Path(__file__).parents[2]
FAKE = (sys.executable, str(TESTS / "fake_vllm_server.py"))


def make_engine(journal: Path, *more: str, log_path: Path | None = None) -> VllmProcessEngine:
    return VllmProcessEngine(
        "small",
        tokenizer=ByteTokenizer(),
        sleep=True,
        log_path=log_path,
        command=(*FAKE, "--journal", str(journal), *more),
    )


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
async def engine(journal: Path) -> AsyncIterator[VllmProcessEngine]:
    engine = make_engine(journal)
    await engine.start()
    yield engine
    await engine.close()


def seen(journal: Path) -> list[str]:
    return journal.read_text().splitlines()


async def kill(engine: VllmProcessEngine) -> None:
    assert engine.pid is not None
    os.killpg(engine.pid, signal.SIGKILL)
    while engine._server is not None and engine._server.alive:  # noqa: ASYNC110 - a process
        await asyncio.sleep(0.01)


def policy(name: str) -> PolicyVersion:
    return PolicyVersion(name, 1, f"/adapters/{name}")


def turn(engine: VllmProcessEngine, version: PolicyVersion) -> GenerationRequest:
    prompt = engine.tokenizer.encode("AVAILABLE ACTIONS: look\ngo", markup=False)
    return GenerationRequest(tuple(prompt), SamplingParams(max_tokens=64, seed=1), version)


async def test_it_sleeps_between_batches_and_nothing_touches_it_meanwhile(
    engine: VllmProcessEngine, journal: Path
) -> None:
    """Two steps as a trainer takes them: play, update, publish, play; an old adapter goes while vLLM sleeps."""
    await engine.sleep()
    awake = AwakeWhilePlaying(engine)
    async with awake, awake:  # two requests at once: one waking, one sleep
        await engine.generate(turn(engine, PolicyVersion()))
        assert not engine.asleep
    assert engine.asleep
    with pytest.raises(BackendUnavailable, match="asleep"):
        await engine.generate(turn(engine, PolicyVersion()))
    await engine.load_policy(policy("v1"))
    await engine.load_policy(policy("v2"))
    await engine.unload_policy("v1")  # never loaded, so never unloaded
    async with awake:
        await engine.generate(turn(engine, policy("v2")))
    await engine.unload_policy("v2")
    async with awake:
        pass
    lines = seen(journal)
    first = lines.index("/sleep")
    assert lines[first:] == [
        *("/sleep", "/wake_up asleep", "/reset_prefix_cache", "/v1/completions"),
        *("/sleep", "/wake_up asleep", "/reset_prefix_cache", "/v1/load_lora_adapter", "/v1/completions"),
        *("/sleep", "/wake_up asleep", "/reset_prefix_cache", "/v1/unload_lora_adapter", "/sleep"),
    ]


async def test_a_rollout_that_fails_puts_it_to_sleep_too(engine: VllmProcessEngine) -> None:
    with pytest.raises(RuntimeError, match="an episode"):
        async with AwakeWhilePlaying(engine):
            raise RuntimeError("an episode")
    assert engine.asleep


class OrderNoted:
    """Stands for an engine that sleeps, and for a torch that has used a GPU: notes who was called when."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.cuda = self

    def is_initialized(self) -> bool:
        return True

    def empty_cache(self) -> None:
        self.calls.append("empty_cache")

    async def start(self) -> None:
        self.calls.append("start")

    async def wake(self) -> None:
        self.calls.append("wake")

    async def sleep(self) -> None:
        self.calls.append("sleep")


async def test_what_torch_holds_for_later_is_given_back_before_it_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = OrderNoted()
    monkeypatch.setitem(sys.modules, "torch", noted)
    async with AwakeWhilePlaying(noted):
        pass
    assert noted.calls == ["empty_cache", "start", "wake", "sleep"]


async def test_a_process_that_died_is_started_again_with_its_adapters(
    engine: VllmProcessEngine, journal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await engine.load_policy(policy("v1"))
    await engine.sleep()
    first = engine.pid
    assert first is not None
    await kill(engine)
    async with AwakeWhilePlaying(engine):
        await engine.generate(turn(engine, policy("v1")))
    assert engine.pid != first
    assert "exit status -9" in caplog.text
    assert seen(journal).count("/v1/load_lora_adapter") == 2


async def test_a_death_after_the_last_episode_costs_nothing(engine: VllmProcessEngine) -> None:
    async with AwakeWhilePlaying(engine):
        await kill(engine)
    async with AwakeWhilePlaying(engine):
        await engine.generate(turn(engine, PolicyVersion()))


async def test_what_it_said_before_it_died_is_in_the_error(journal: Path, tmp_path: Path) -> None:
    engine = make_engine(journal, "--die", log_path=tmp_path / "run" / "vllm.log")
    with pytest.raises(BackendUnavailable, match=r"exit status 3.*\n.*Free memory on device") as caught:
        await engine.start()
    assert str(tmp_path / "run" / "vllm.log") in caught.value.hint
    assert engine.pid is None


async def test_a_death_in_the_middle_of_an_episode_is_told(engine: VllmProcessEngine) -> None:
    await kill(engine)
    with pytest.raises(BackendUnavailable, match="has died: exit status -9"):
        await engine.generate(turn(engine, PolicyVersion()))


async def test_closing_leaves_neither_process_nor_folder(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = journal.parent / "sockets"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    engine = make_engine(journal)
    await engine.start()
    pid = engine.pid
    assert pid is not None
    (made,) = folder.iterdir()
    assert made.stat().st_mode & 0o077 == 0, "another user of the machine could reach it"
    await engine.close()
    await engine.close()
    assert not psutil.pid_exists(pid)
    assert not list(folder.iterdir())


OWNER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from rollout_server.engines import vllm_process
from test_vllm_process_fake import make_engine
vllm_process._has_cuda = lambda: False  # or torch would be imported, for seconds
async def main():
    engine = make_engine(Path(sys.argv[1]))
    await engine.start()
    print(engine.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_it_ends_when_its_owner_is_killed(journal: Path) -> None:
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(here=str(Path(__file__).parent)), str(journal)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert owner.stdout is not None
    server = psutil.Process(int(owner.stdout.readline()))
    assert server.is_running()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:  # bounded by the test's own time limit
        try:
            server.wait(timeout=0.1)
        except psutil.TimeoutExpired:
            continue


def test_sleep_needs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollout_server.engines.vllm_process._has_cuda", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        asyncio.run(VllmProcessEngine("m", sleep=True).start())


def test_the_command_line_follows_the_machine() -> None:
    extra = ["--quantization", "fp8"]
    engine = VllmProcessEngine("m", gpu_memory_utilization=0.35, max_lora_rank=12, server_args=extra)
    gpu, cpu = engine.arguments(on_cpu=False, sleeps=True), engine.arguments(on_cpu=True, sleeps=False)
    assert gpu[gpu.index("--gpu-memory-utilization") + 1] == "0.35"
    assert gpu[gpu.index("--max-lora-rank") + 1] == "16", "the next rank that vLLM has"
    assert gpu[-2:] == extra
    assert "--enable-sleep-mode" in gpu
    assert "--enable-sleep-mode" not in cpu
    assert "--enforce-eager" not in gpu
    assert {"--enforce-eager", "--no-enable-chunked-prefill", "--kv-cache-memory-bytes"} <= set(cpu)
    assert "--enable-lora" not in VllmProcessEngine("m", max_lora_rank=0).arguments(on_cpu=True, sleeps=False)
    with pytest.raises(ConfigError, match="gpu_memory_utilization is 2"):
        VllmProcessEngine("m", gpu_memory_utilization=2)


def test_the_process_gets_no_token_of_ours_and_routes_for_sleeping_only_where_it_sleeps() -> None:
    parent = {"ENVLOOP_TOKEN": "tok-of-the-env-server", "HF_TOKEN": "tok-for-gated-models"}
    awake = child_environment(parent, sockets="/s", sleeps=False, binding="0-1")
    asleep = child_environment(parent, sockets="/s", sleeps=True, binding=None)
    assert "ENVLOOP_TOKEN" not in awake
    assert awake["HF_TOKEN"] == parent["HF_TOKEN"]
    assert ("VLLM_SERVER_DEV_MODE" in asleep, "VLLM_SERVER_DEV_MODE" in awake) == (True, False)
    assert awake["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
