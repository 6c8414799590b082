"""What the vLLM engine makes of failures of vLLM's own. The engine core alone is a double, which dies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from contract.engine_contract import make_adapter

from envs.errors import BackendUnavailable, ConfigError
from rollout_server.engines.base import GenerationRequest
from rollout_server.engines.vllm import VllmEngine
from rollout_server.tokenizer import ByteTokenizer
from rollout_server.types import PolicyVersion, SamplingParams

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:(torch|vllm|importlib)\b.*"),
    pytest.mark.filterwarnings(r"ignore::FutureWarning:(torch|vllm)\b.*"),
]


class DyingCore:
    """Stands for ``AsyncLLM``: answers with one token; adapters fail with ``failure`` once it is set."""

    output_handler = None

    def __init__(self) -> None:
        self.errored = self.ended = False
        self.failure: Exception | None = None
        self.on_answer: Any = None
        self.adapters: list[str] = []
        self.engine_core = SimpleNamespace(resources=SimpleNamespace(ctx=SimpleNamespace(destroy=lambda linger: None)))

    async def generate(self, *args: object, **kwargs: object) -> AsyncIterator[Any]:
        token = SimpleNamespace(logprob=-0.5)
        output = SimpleNamespace(token_ids=[65], logprobs=[{65: token}], finish_reason="length")
        yield SimpleNamespace(outputs=[output])
        if self.on_answer is not None:
            await self.on_answer()

    async def add_lora(self, lora: Any) -> bool:
        if self.failure is not None:
            raise self.failure
        self.adapters.append(lora.lora_name)
        return True

    async def remove_lora(self, lora_id: int) -> bool:
        del lora_id
        if self.failure is not None:
            raise self.failure
        return True

    def shutdown(self, timeout: float | None = None) -> None:
        del timeout
        self.ended = True


@pytest.fixture
def core() -> DyingCore:
    return DyingCore()


@pytest.fixture
def engine(vllm_imported: None, core: DyingCore) -> VllmEngine:
    made = VllmEngine("small", tokenizer=ByteTokenizer())
    made._llm = core
    return made


@pytest.fixture(scope="module")
def policy(smollm2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> PolicyVersion:
    return PolicyVersion("v1", 1, str(make_adapter(smollm2_dir, tmp_path_factory.mktemp("lora") / "a", seed=1)))


def failures() -> list[Exception]:
    from vllm.v1.engine.exceptions import EngineDeadError

    return [EngineDeadError(), Exception("Call to remove_lora method failed")]


async def test_a_dead_engine_that_unloads_is_our_failure(
    engine: VllmEngine, core: DyingCore, policy: PolicyVersion
) -> None:
    for failure in failures():
        core.failure = None
        await engine.load_policy(policy)
        core.failure = failure
        with pytest.raises(BackendUnavailable, match="could not remove the adapter v1"):
            await engine.unload_policy("v1")


async def test_a_dead_engine_that_loads_is_no_fault_of_the_adapter(
    engine: VllmEngine, core: DyingCore, policy: PolicyVersion
) -> None:
    dead, refused = failures()
    core.failure = dead
    with pytest.raises(BackendUnavailable, match="EngineDeadError"):
        await engine.load_policy(policy)
    core.failure = refused
    with pytest.raises(ConfigError, match="cannot load the adapter"):
        await engine.load_policy(policy)


async def test_a_completion_outlives_the_failure_to_free_an_old_adapter(
    engine: VllmEngine, core: DyingCore, policy: PolicyVersion, caplog: pytest.LogCaptureFixture
) -> None:
    await engine.load_policy(policy)

    async def retire() -> None:
        await engine.unload_policy("v1")  # in use: it is freed when this request has ended
        core.failure = failures()[0]

    core.on_answer = retire
    completion = await engine.generate(GenerationRequest((1, 2), SamplingParams(max_tokens=1), policy))
    assert (completion.token_ids, completion.policy) == ((65,), "v1")
    assert "could not remove the adapter v1" in caplog.text


async def test_an_engine_that_died_starts_again_with_its_adapters(
    engine: VllmEngine, core: DyingCore, policy: PolicyVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = [DyingCore(), DyingCore()]
    monkeypatch.setattr(engine, "_load", lambda loaded: loaded.append(cores.pop()))
    await engine.load_policy(policy)
    await engine.start()  # it runs: nothing to do
    assert (engine.alive, core.ended, len(cores)) == (True, False, 2)
    core.errored = True
    request = GenerationRequest((1, 2), SamplingParams(max_tokens=1), policy)
    with pytest.raises(BackendUnavailable, match="has died"):
        await engine.generate(request)
    assert not engine.alive
    second, third = cores[1], cores[0]
    second.failure = failures()[0]  # dies anew while its adapter is loaded
    with pytest.raises(BackendUnavailable):
        await engine.start()
    second.errored = True
    await engine.start()
    assert (engine.alive, core.ended, second.ended) == (True, True, True)
    assert third.adapters == ["v1"]
    assert (await engine.generate(request)).policy == "v1"
    await engine.close()
    assert (engine.alive, third.ended) == (False, True)
