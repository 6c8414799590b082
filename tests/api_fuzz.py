"""Requests that schemathesis makes of an OpenAPI document, and bad ones: every answer must be as documented."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx
import hypothesis.strategies as st
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

__all__ = ["BAD_BODIES", "BAD_TYPES", "ApiFuzz", "check", "httpx_request"]

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance, response_headers_conformance]

_DEEP = 40_000
BAD_BODIES: Sequence[bytes] = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"7",
    b"\xff\xfe{}",
    "{}".encode("utf-16"),
    b"\xef\xbb\xbf{}",
    b"[" * _DEEP,
    b'{"a":' * _DEEP + b"1" + b"}" * _DEEP,
    b'{"arguments":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
    b'{"seed": ' + b"9" * 5000 + b"}",
    b'{"seed": 1e400, "step": -1e400}',
    b'{"env": NaN, "step": Infinity}',
    b'{"env": "\\u0000", "env": "\\ud800", "env": 3}',
    b'{"env": "alfworld", "task_id": "\\u0000\\ud800"}',
    b'{"env": "alfworld", "sampler": {"split": "\\u0000", "seed": 18446744073709551616}}',
    b'{"env": "alfworld", "sampler": {"split": "generated", "seed": 1}, "seed": 1.5}',
    b'{"env": "alfworld", "sampler": {"split": "generated", "seed": 1}, "options": {"\\u0000": {"\\ud800": []}}}',
    b'{"action": {"name": "\\ud800\\u0000", "arguments": {"action": "\\ud800"}}}',
    b'{"action": {"name": "take_action", "arguments": {"action": {"a": [1e308, -0.0]}}}, "step": 9223372036854775808}',
    b'{"items": {}, "ids": {}}',
    b'{"items": [[], null, 3, {"env": "alfworld"}, {"episode_id": "\\ud800", "action": {"name": "x"}}]}',
    b'{"ids": ["\\ud800", "\\u0000", ""]}',
    b'{"tasks": [{"env": "alfworld", "split": "\\ud800", "sample_seed": -1}]}',
    b'{"tasks": [], "group_size": 99999999999999999999}',
    b'{"name": "../../x\\u0000", "adapter_path": "\\u0000\\ud800"}',
    b'{"name": "x", "adapter_path": "/proc/self/mem"}',
)
BAD_TYPES: Sequence[str] = (
    "application/json",
    "text/plain",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "application/json; charset=utf-16",
    "",
    "\xe9/;;=",
)


@schemathesis.serializer("application/x-tar")
def _as_it_is(context: Any, value: Any) -> bytes:
    del context
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


Send = Callable[[Mapping[str, Any]], httpx.Response]


def httpx_request(request: Mapping[str, Any], more_headers: Mapping[str, str]) -> dict[str, Any]:
    """What schemathesis sends, for httpx: JSON as ASCII, since it may hold lone surrogates, and headers as bytes."""
    headers = {**request.get("headers", {}), **more_headers}
    content = request.get("data")
    if "json" in request:
        content = json.dumps(request["json"]).encode("ascii")
        headers.setdefault("Content-Type", "application/json")
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    return {
        "method": request["method"],
        "url": request["url"],
        "headers": [(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in headers.items()],
        "params": request.get("params"),
        "content": content,
    }


def check(case: Any, answer: httpx.Response) -> None:
    """The answer's status, type, headers and body are those of the document, and nothing failed."""
    said = f"{case.method} {answer.request.url} gave {answer.status_code}: {answer.text[:300]}"
    busy = answer.status_code == 503 and "503" in case.operation.definition.raw["responses"]
    assert answer.status_code < 500 or busy, said
    try:
        case.validate_response(answer, checks=CHECKS)
    except BaseException as error:
        error.add_note(said)
        raise


class ApiFuzz:
    """Of one document. ``known`` gives real values of a field by its name, in paths, queries and bodies.

    ``fresh`` is called before each operation, to renew what requests may have ended.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        send: Send,
        known: Mapping[str, Sequence[Any]],
        *,
        fresh: Callable[[], None] = lambda: None,
        base_url: str = "http://127.0.0.1",
        skip: Sequence[str] = (),
    ) -> None:
        self._schema = schemathesis.openapi.from_dict(dict(document))
        self._send = send
        self._known = known
        self._fresh = fresh
        self._base_url = base_url
        self._skip = skip
        self.sent = 0

    def operations(self) -> Iterator[Any]:
        """All of them."""
        for found in self._schema.get_all_operations():
            operation = found.ok()
            if operation.label not in self._skip:
                yield operation

    def generated(self, count: int, *, derandomize: bool) -> None:
        """Each operation, so many requests that fit its schema and so many that do not."""
        for operation in self.operations():
            self._fresh()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                self._generated(operation, mode, count, derandomize=derandomize)

    def _generated(self, operation: Any, mode: GenerationMode, count: int, *, derandomize: bool) -> None:
        chosen = settings(
            max_examples=count,
            deadline=None,
            database=None,
            derandomize=derandomize,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            print_blob=True,
        )

        @chosen
        @given(case=operation.as_strategy(generation_mode=mode), draw=st.randoms(use_true_random=False))
        def ask(case: Any, draw: random.Random) -> None:
            self._make_real(case, draw)
            sent = case.as_transport_kwargs(base_url=self._base_url)
            self.sent += 1
            check(case, self._send(sent))

        try:
            ask()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # nothing can be sent that its schema refuses

    def malformed(self) -> None:
        """Every body that is none, and every wrong content type, to each operation that takes a body."""
        for operation in self.operations():
            if operation.method not in ("post", "put"):
                continue
            self._fresh()
            kinds = operation.get_request_payload_content_types()
            names = [name for name in self._known if "{" + name + "}" in operation.path]
            parameters = {name: str(self._known[name][0]) for name in names}
            path = operation.path.format(**parameters)
            wrong = [(body, "application/json") for body in BAD_BODIES]
            wrong += [(b'{"env": "alfworld"}', kind) for kind in BAD_TYPES]
            for body, kind in wrong:
                headers = {"Content-Type": kind} if kind else {}
                url = self._base_url + path
                self.sent += 1
                answer = self._send({"method": operation.method, "url": url, "headers": headers, "data": body})
                case = operation.Case(path_parameters=parameters, body=None, media_type=kinds[0] if kinds else None)
                check(case, answer)

    def _make_real(self, case: Any, draw: random.Random) -> None:
        """Some of what was drawn becomes real, so that requests come further than to 'unknown'."""
        for part in (case.path_parameters, case.query, case.body):
            if isinstance(part, (dict, list)):
                self._replace(part, draw)

    def _replace(self, value: Any, draw: random.Random) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                if name in self._known and draw.random() < 0.7:
                    value[name] = draw.choice(self._known[name])
                else:
                    self._replace(item, draw)
        elif isinstance(value, list):
            for at, item in enumerate(value):
                if isinstance(item, str) and "ids" in self._known and draw.random() < 0.5:
                    value[at] = draw.choice(self._known["ids"])
                self._replace(item, draw)
