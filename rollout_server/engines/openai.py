"""A vLLM server somewhere else, by its OpenAI-compatible HTTP API: ids in, ids out.

The server must answer token ids and the logprobs of the distribution that it samples from, or what is trained on would
not be what was sampled. ``start()`` asks for one token and refuses a server that does not. For vLLM 0.31::

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve MODEL --logprobs-mode processed_logprobs --generation-config vllm \\
        --enable-lora --max-loras 4 --max-lora-rank 64

Adapters are loaded from a path on the server's machine: share a disk.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx

from envs.errors import BackendUnavailable, ConfigError, InvalidOption, TransportError, UnknownPolicy
from rollout_server.engines.adapters import check_adapter
from rollout_server.engines.base import GenerationRequest, Tokenizer
from rollout_server.engines.gate import KindGate
from rollout_server.types import Completion, FinishReason, PolicyVersion, SamplingParams

__all__ = ["OpenAIEngine", "shown_url"]

_LOG = logging.getLogger(__name__)
_BUSY = frozenset({429, 503})
_BACKOFF_S = 0.5
_HOW_TO_SERVE = (
    "serve with vLLM 0.31: --logprobs-mode processed_logprobs --generation-config vllm; for adapters --enable-lora and "
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
)


class OpenAIEngine:
    """Samples from a vLLM server at ``base_url`` (with or without ``/v1``) that serves ``model``.

    ``tokenizer_path`` names the tokenizer's folder or hub name where ``model`` does not. A request that never reached
    the server, or that it turned away as too many, is sent again up to ``retries`` times; nothing else is.
    ``transport`` replaces the network, for tests.
    """

    name = "openai"
    constrains = True

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        tokenizer: Tokenizer | None = None,
        tokenizer_path: str | None = None,
        request_timeout_s: float = 600.0,
        retries: int = 3,
        base_apart: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.model = model
        self.max_model_len = 0  # the server's, known after start()
        self.base_models: tuple[str, ...] = ()  # every name of the model, the server's own too; after start()
        if tokenizer is not None:
            self.tokenizer: Tokenizer = tokenizer
        self._tokenizer_path = tokenizer_path or model
        self._base_url = base_url.rstrip("/").removesuffix("/v1")
        self._shown = shown_url(self._base_url)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = httpx.Timeout(request_timeout_s, connect=10.0)
        self._retries = retries
        self._transport = transport
        self._gate = KindGate() if base_apart else None
        self._client: httpx.AsyncClient | None = None
        self._start_lock = asyncio.Lock()
        # The server may still hold adapters of an earlier run under the same policy names: ours are told apart.
        self._prefix = secrets.token_hex(4)
        self._loads = itertools.count(1)
        self._served: dict[str, str] = {}
        self._in_use: Counter[str] = Counter()
        self._retired: set[str] = set()

    async def start(self) -> None:
        """Connect and check what the server answers. Raises: ConfigError, TransportError."""
        async with self._start_lock:
            if self._client is not None:
                return
            if not hasattr(self, "tokenizer"):
                from rollout_server.tokenizer import HFTokenizer

                self.tokenizer = await asyncio.to_thread(HFTokenizer, self._tokenizer_path)
            self._client = httpx.AsyncClient(
                base_url=self._base_url,
                headers=self._headers,
                timeout=self._timeout,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
                transport=self._transport,
            )
            try:
                await self._check_server()
            except BaseException:
                client, self._client = self._client, None
                await client.aclose()
                raise

    async def check(self) -> frozenset[str]:
        """Whether the server answers as it must, and which of the loaded policies it still has: a server that was
        started again has none. Raises: ConfigError, TransportError."""
        listed = await self._check_server()
        self._served = {name: served for name, served in self._served.items() if served in listed}
        return frozenset(self._served)

    async def _check_server(self) -> frozenset[str]:
        """Refuse a server that cannot be exact. Answers the names of what it serves, adapters among them."""
        listed = self._json(await self._request("GET", "/v1/models"))
        models = {m["id"]: m for m in listed.get("data") or [] if isinstance(m, dict) and "id" in m}
        if self.model not in models:
            raise ConfigError(
                f"the server at {self._shown} does not serve {self.model!r}", hint=f"it serves {', '.join(models)}"
            )
        self.max_model_len = int(models[self.model].get("max_model_len") or 0)
        root = models[self.model].get("root")  # vLLM's --model, where --served-model-name is another
        self.base_models = tuple(dict.fromkeys((self.model, *([str(root)] if root else []), self._tokenizer_path)))
        # With top_k=1 the distribution that is sampled from is certain: its logprob is 0, unlike the model's own.
        probe = SamplingParams(top_k=1, max_tokens=1)
        prompt = tuple(self.tokenizer.encode("Once upon a time, there", markup=False))
        completion = await self.generate(GenerationRequest(prompt, probe, PolicyVersion()))
        if completion.logprobs[0] < -1e-3:
            raise ConfigError(
                f"the server at {self._shown} answers the model's own logprobs, not those it samples by",
                hint=_HOW_TO_SERVE,
            )
        return frozenset(models)

    async def generate(self, request: GenerationRequest) -> Completion:
        """Sample one turn; see ``Engine.generate``. Cancelling closes the connection, and vLLM stops sampling."""
        max_tokens = request.sampling.max_tokens
        if self.max_model_len:
            room = self.max_model_len - len(request.prompt_ids)
            if room < 1:
                raise InvalidOption(
                    f"a prompt of {len(request.prompt_ids)} tokens leaves no room in a context of {self.max_model_len}",
                    hint="serve with a larger --max-model-len, or end the episode earlier",
                )
            max_tokens = min(max_tokens, room)
        model = self.model
        if request.policy.adapter_path is not None:
            if request.policy.name not in self._served:
                raise UnknownPolicy(f"the server has no policy {request.policy.name!r} loaded", hint="publish it first")
            model = self._served[request.policy.name]
        body = self._body(request, model, max_tokens)
        self._in_use[model] += 1
        try:
            async with self._gate.hold(model == self.model) if self._gate else nullcontext():
                response = await self._request("POST", "/v1/completions", body, busy_ok=True)
        finally:
            self._in_use[model] -= 1
        try:
            await self._remove_retired()
        except TransportError as error:
            # Only the server's memory is at stake: what was sampled is good.
            _LOG.warning("%s", error)
        if response.status_code == httpx.codes.NOT_FOUND and model != self.model:
            raise UnknownPolicy(
                f"the server forgot the policy {request.policy.name!r}", hint="it was started again: publish it anew"
            )
        return self._completion(self._json(response), request.policy)

    def _body(self, request: GenerationRequest, model: str, max_tokens: int) -> dict[str, Any]:
        sampling = request.sampling
        held = {"structured_outputs": {"grammar": request.constraint.grammar}} if request.constraint else {}
        return {
            "model": model,
            "prompt": list(request.prompt_ids),
            "n": 1,
            "stream": False,
            "max_tokens": max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": sampling.seed,
            "stop_token_ids": [self.tokenizer.end_of_turn_id],
            "ignore_eos": True,  # one rule of ending a turn, the same for every engine
            "logprobs": 0,
            "return_token_ids": True,
            "skip_special_tokens": False,
            "add_special_tokens": False,
            **held,
        }

    def _completion(self, body: dict[str, Any], policy: PolicyVersion) -> Completion:
        choices = body.get("choices") or [{}]
        ids, logprobs = choices[0].get("token_ids"), (choices[0].get("logprobs") or {}).get("token_logprobs")
        if not ids:
            raise ConfigError(
                f"the server at {self._shown} answers no token ids, so that rollouts cannot be exact",
                hint=f"{_HOW_TO_SERVE}; to evaluate by text alone take the engine chat",
            )
        if not logprobs or len(logprobs) != len(ids) or not all(isinstance(p, int | float) for p in logprobs):
            raise ConfigError(f"the server at {self._shown} answers no logprob for each id", hint=_HOW_TO_SERVE)
        stopped = ids[-1] == self.tokenizer.end_of_turn_id
        reason = FinishReason.STOP if stopped else FinishReason.LENGTH
        return Completion(tuple(ids), tuple(map(float, logprobs)), reason, policy.name)

    async def load_policy(self, policy: PolicyVersion) -> None:
        """Have the server load an adapter. Raises: ConfigError; BackendUnavailable where it takes none."""
        if policy.adapter_path is None or policy.name in self._served:
            return
        # Where the folder can be seen from here too, its faults are named better here than by the server.
        path = Path(policy.adapter_path)
        if await asyncio.to_thread(path.is_dir):
            path = (await asyncio.to_thread(check_adapter, path)).path
        served = f"{self._prefix}.{next(self._loads)}-{policy.name}"
        body = {"lora_name": served, "lora_path": str(path)}
        try:
            response = await self._request("POST", "/v1/load_lora_adapter", body)
        except BaseException:
            self._retired.add(served)  # the server may have it all the same
            raise
        if response.status_code == httpx.codes.NOT_FOUND and _reason(response) == "Not Found":  # no such route
            raise BackendUnavailable(f"the server at {self._shown} takes no adapters", hint=_HOW_TO_SERVE)
        if response.is_error:
            raise ConfigError(f"the server cannot load the adapter {path}: {_reason(response)}")
        self._served[policy.name] = served

    async def unload_policy(self, name: str) -> None:
        """Have the server forget an adapter, once the last request that samples from it has ended."""
        served = self._served.pop(name, None)
        if served is not None:
            self._retired.add(served)
        await self._remove_retired()

    async def _remove_retired(self) -> None:
        for served in [name for name in self._retired if not self._in_use[name]]:
            self._retired.remove(served)
            del self._in_use[served]
            response = await self._request("POST", "/v1/unload_lora_adapter", {"lora_name": served})
            if response.is_error and response.status_code != httpx.codes.NOT_FOUND:
                raise TransportError(f"the server could not unload {served!r}: {_reason(response)}")

    async def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, busy_ok: bool = False
    ) -> httpx.Response:
        if self._client is None:
            raise BackendUnavailable("the engine is not connected", hint="call start() first")
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                response = await self._client.request(method, path, json=body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent: safe to send again
                if last:
                    raise TransportError(
                        f"the server at {self._shown} cannot be reached", hint="is it up, and is the URL right?"
                    ) from error
            except httpx.HTTPError as error:
                raise TransportError(f"{method} {path} at {self._shown} failed: {type(error).__name__}") from error
            else:
                if last or not busy_ok or response.status_code not in _BUSY:
                    return response
            await asyncio.sleep(_BACKOFF_S * 2**attempt)
        raise AssertionError("unreachable")

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        status = response.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ConfigError(f"the server at {self._shown} refuses the API key", hint="set the engine's api_key")
        if status in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY):
            raise InvalidOption(f"the server refuses the request: {_reason(response)}")
        if response.is_error:
            raise TransportError(f"the server at {self._shown} answered HTTP {status}: {_reason(response)}")
        try:
            body = response.json()
        except ValueError as error:
            raise TransportError(f"the server at {self._shown} answered no JSON") from error
        if not isinstance(body, dict):
            raise TransportError(f"the server at {self._shown} answered no JSON object")
        return body

    async def close(self) -> None:
        """Unload this engine's adapters from the server and disconnect. Idempotent."""
        async with self._start_lock:
            if self._client is None:
                return
            self._retired |= set(self._served.values())
            self._served.clear()
            self._in_use.clear()
            try:
                await self._remove_retired()
            except TransportError as error:
                _LOG.warning("adapters stay on the server: %s", error)
            client, self._client = self._client, None
            await client.aclose()

    async def disconnect(self) -> None:
        """Disconnect from a server that ends with its adapters, or has ended. Idempotent."""
        self._served.clear()
        self._retired.clear()
        await self.close()


def shown_url(url: str) -> str:
    """An address as errors and logs may show it: without a name and a password. Raises ConfigError where it is none."""
    try:
        return str(httpx.URL(url).copy_with(username=None, password=None))
    except httpx.InvalidURL as error:
        raise ConfigError(f"a base_url is no address: {error}", hint="such as http://10.0.0.2:8000") from error


def _reason(response: httpx.Response) -> str:
    """The message of an OpenAI error body, or the beginning of what came instead."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:200]
    error = body.get("error", body.get("detail", body)) if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]
