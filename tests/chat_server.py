"""Test double of a server of OpenAI's chat completions that tells texts and tool calls alone, with the refusals of a
strict one: what a provider answers, without its model."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

__all__ = ["ChatServer"]


class ChatServer:
    """Chooses one of the last actions that it was shown, by a hash of the conversation and the seed.

    ``failures`` are HTTP statuses to answer first; ``requests`` what was asked. ``texts`` are said instead, in order.
    """

    def __init__(self, *, key: str = "tok-chat") -> None:
        self.key = key
        self.failures: list[int] = []
        self.texts: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])

    async def _complete(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "no such key"}}, 401)
        if self.failures:
            return JSONResponse({"error": {"message": "busy"}}, self.failures.pop(0), headers={"retry-after": "0"})
        body = await request.json()
        self.requests.append(body)
        if (wrong := _refused(body)) is not None:
            return JSONResponse({"error": {"message": wrong}}, 400)
        message = self.texts.pop(0) if self.texts else self._choose(body)
        finish = message.pop("finish_reason", "stop")
        return JSONResponse({"choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}]})

    def _choose(self, body: dict[str, Any]) -> dict[str, Any]:
        text = next(m["content"] for m in reversed(body["messages"]) if "AVAILABLE ACTIONS: " in str(m.get("content")))
        actions = text.rpartition("AVAILABLE ACTIONS: ")[2].split("\n")
        seen = json.dumps([body["messages"], body.get("seed")], sort_keys=True)
        action = actions[hashlib.sha256(seen.encode()).digest()[0] % len(actions)]
        arguments = json.dumps({"action": action})
        call = {"id": "x", "type": "function", "function": {"name": "take_action", "arguments": arguments}}
        return {"content": "I think.", "tool_calls": [call]}


def _refused(body: dict[str, Any]) -> str | None:
    """What a strict provider refuses: unknown fields, a tool's answer without its call, a call without an answer."""
    known = {"model", "messages", "tools", "temperature", "top_p", "max_tokens", "n", "stream", "seed"}
    if unknown := body.keys() - known:
        return f"unknown fields {sorted(unknown)}"
    open_calls: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return "a tool's message answers no call"
            open_calls.remove(message["tool_call_id"])
        elif open_calls:
            return "a call has no answer"
        open_calls += [call["id"] for call in message.get("tool_calls", ())]
    return "a call has no answer" if open_calls else None
