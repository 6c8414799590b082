"""Any server of OpenAI's chat completions, by text: for evaluation of models that tell no token ids.

Messages and tools go out, text and tool calls come back. What was sampled is not known token by token, so episodes of
this engine are marked ``text_only`` and nothing is learnt from them. Where the server is vLLM, take the engine
``openai``: it is exact.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from envs.errors import BackendUnavailable, ConfigError, InvalidOption, TransportError
from rollout_server.chat import ChatFormat, tool_json
from rollout_server.engines.base import ChatContext, GenerationRequest, Tokenizer
from rollout_server.engines.openai import shown_url
from rollout_server.export_messages import split_calls
from rollout_server.tokenizer import ByteTokenizer
from rollout_server.types import Completion, FinishReason, Message, PolicyVersion, Role, SamplingParams

__all__ = ["ChatCompletionsEngine", "answer_text", "chat_messages"]

_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_BACKOFF_S = 1.0
_LONGEST_WAIT_S = 60.0


class ChatCompletionsEngine:
    """Asks the model ``model`` at ``base_url`` for one turn after another.

    Lengths are counted in UTF-8 bytes, or in the tokens of ``tokenizer_path`` where one is named: so are
    ``max_episode_tokens`` and an evaluation's mean tokens. Logprobs are 0.0: nobody knows them. A request that never
    arrived, or that the server could not answer now, is sent again up to ``retries`` times, after as long as the server
    asks for. ``max_tokens_field`` is the name of the bound of a turn (newer models of OpenAI: max_completion_tokens);
    ``body`` is added to every request as it is. ``transport`` replaces the network, for tests.
    """

    name = "chat"
    text_only = True

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        tokenizer_path: str | None = None,
        request_timeout_s: float = 600.0,
        retries: int = 5,
        max_tokens_field: str = "max_tokens",
        body: Mapping[str, Any] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.model = model
        self.tokenizer: Tokenizer = ByteTokenizer() if tokenizer_path is None else _hf(tokenizer_path)
        self._chat = ChatFormat(self.tokenizer)
        self._shown = shown_url(base_url)
        bare = urlsplit(base_url).path.strip("/") == ""
        self._base_url = base_url.rstrip("/") + ("/v1" if bare else "")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = httpx.Timeout(request_timeout_s, connect=10.0)
        self._retries = retries
        self._max_tokens_field = max_tokens_field
        self._more = dict(body or {})
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Open the connections. The first turn tells whether the server is there."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                base_url=self._base_url,
                headers=self._headers,
                timeout=self._timeout,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
                transport=self._transport,
            )

    async def generate(self, request: GenerationRequest) -> Completion:
        """Sample one turn. Raises: ConfigError for a refused key or an unknown model; InvalidOption for a request that
        the server refuses; TransportError."""
        if request.chat is None:
            raise ConfigError("the engine chat plays only within the agent loop", hint="use the engine openai here")
        if request.policy.adapter_path is not None:
            raise BackendUnavailable("the engine chat takes no adapters", hint="name the adapter as the server's model")
        answer = await self._post({**self._body(request.chat, request.sampling), **self._more})
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise TransportError(f"the server at {self._shown} answered no choice")
        ids = self._chat.turn(answer_text(choices[0].get("message") or {}))
        cut = choices[0].get("finish_reason") == "length"
        kept = tuple(ids[:-1] if cut and len(ids) > 1 else ids)
        reason = FinishReason.LENGTH if cut else FinishReason.STOP
        return Completion(kept, (0.0,) * len(kept), reason, request.policy.name)

    def _body(self, chat: ChatContext, sampling: SamplingParams) -> dict[str, Any]:
        strange = [n for n in ("top_k", "min_p", "repetition_penalty") if getattr(sampling, n) != _DEFAULTS[n]]
        if strange:
            raise InvalidOption(f"chat completions know no {', '.join(strange)}", hint="leave it at its default")
        body: dict[str, Any] = {
            "model": self.model,
            "messages": chat_messages(chat.messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._max_tokens_field: sampling.max_tokens,
            "n": 1,
            "stream": False,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if chat.tools:
            body["tools"] = [tool_json(tool) for tool in chat.tools]
        return body

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        if self._client is None:
            raise BackendUnavailable("the engine is not connected", hint="call start() first")
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            wait = _BACKOFF_S * 2**attempt
            try:
                response = await self._client.post("/chat/completions", json=body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if last:
                    message = f"the server at {self._shown} cannot be reached"
                    raise TransportError(message, hint="is it up, and is the URL right?") from error
            except httpx.HTTPError as error:
                raise TransportError(f"the request to {self._shown} failed: {type(error).__name__}") from error
            else:
                if last or response.status_code not in _AGAIN:
                    return self._read(response)
                wait = max(wait, _asked_wait(response))
            await asyncio.sleep(min(wait, _LONGEST_WAIT_S))
        raise AssertionError("unreachable")

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        status = response.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ConfigError(f"the server at {self._shown} refuses the API key", hint="set OPENAI_API_KEY")
        if status == httpx.codes.NOT_FOUND:
            raise ConfigError(
                f"the server at {self._shown} has no chat completions of {self.model!r}",
                hint="check --model and --base-url, its /v1 too",
            )
        if status in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY):
            raise InvalidOption(
                f"the server refuses the request: {response.text[:300]}",
                hint="an episode longer than its context is ended earlier by eval.max_episode_tokens; engine_options: "
                "max_tokens_field, body",
            )
        if response.is_error:
            raise TransportError(f"the server at {self._shown} answered HTTP {status}: {response.text[:200]}")
        try:
            answer = response.json()
        except ValueError as error:
            raise TransportError(f"the server at {self._shown} answered no JSON") from error
        if not isinstance(answer, dict):
            raise TransportError(f"the server at {self._shown} answered no JSON object")
        return answer

    async def load_policy(self, policy: PolicyVersion) -> None:
        """Raises BackendUnavailable: the server's models are its own."""
        raise BackendUnavailable("the engine chat takes no adapters", hint="name the adapter as the server's model")

    async def unload_policy(self, name: str) -> None:
        """Nothing to forget."""

    async def close(self) -> None:
        """Disconnect. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


_DEFAULTS = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


def answer_text(message: Mapping[str, Any]) -> str:
    """A turn as our protocols read it: the text, then each tool call as Hermes writes it.

    A call whose arguments are no JSON stays as it came, so that the protocol sees a broken call.
    """
    content = message.get("content")
    parts = [content] if isinstance(content, str) and content else []
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {} if isinstance(call, Mapping) else {}
        arguments = function.get("arguments")
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        name = json.dumps(str(function.get("name", "")), ensure_ascii=False)
        parts.append(f'<tool_call>\n{{"name": {name}, "arguments": {written or "{}"}}}\n</tool_call>')
    return "\n".join(parts)


def chat_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Our messages in OpenAI's form: a turn's tool calls taken out of its text, each answer under its call's id.

    Calls that the protocol did not answer are left out, since servers refuse them; an answer without a call (a broken
    one) is a user's message.
    """
    rows: list[dict[str, Any]] = []
    index = 0
    while index < len(messages):
        message = messages[index]
        index += 1
        if message.role is not Role.ASSISTANT:
            role = Role.USER if message.role is Role.TOOL else message.role
            rows.append({"role": role.value, "content": message.content})
            continue
        answers: list[Message] = []
        while index < len(messages) and messages[index].role is Role.TOOL:
            answers.append(messages[index])
            index += 1
        content, calls = split_calls(message.content)
        paired = list(zip(calls, answers, strict=False))
        if not paired:
            rows.append({"role": "assistant", "content": message.content})
        else:
            made = [
                {
                    "id": f"call_{len(rows)}_{n}",
                    "type": "function",
                    "function": {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)},
                }
                for n, (call, _) in enumerate(paired)
            ]
            rows.append({"role": "assistant", "content": content or None, "tool_calls": made})
            rows += [
                {"role": "tool", "tool_call_id": call["id"], "content": answer.content}
                for call, (_, answer) in zip(made, paired, strict=True)
            ]
        rows += [{"role": "user", "content": answer.content} for answer in answers[len(paired) :]]
    return rows


def _asked_wait(response: httpx.Response) -> float:
    """Seconds that the server asks to wait, 0.0 where it does not say."""
    try:
        return max(0.0, float(response.headers.get("retry-after", 0.0)))
    except ValueError:
        return 0.0


def _hf(path: str) -> Tokenizer:
    from rollout_server.tokenizer import HFTokenizer

    return HFTokenizer(path)
