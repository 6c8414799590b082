"""The routes of policies: publish by path or by upload, list, drop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from envs.errors import ConfigError, InvalidOption, PayloadTooLarge
from envs.server.guard import validation_error
from rollout_server.serialize import policy_to_json
from rollout_server.server.answers import errors, json_answer
from rollout_server.server.schemas import PoliciesAnswer, PolicyAnswer, PublishPolicy
from rollout_server.types import PolicyVersion

if TYPE_CHECKING:
    from rollout_server.server.app import Running

__all__ = ["UPLOADS", "build_policy_routes"]

_ADAPTERS, _POLICY = "/v1/adapters/", "/v1/policy"
UPLOADS = (_ADAPTERS, _POLICY)
"""Beginnings of the paths whose bodies are read here, and bounded."""

_TAR = "application/x-tar"
_BINARY = {_TAR: {"schema": {"type": "string", "format": "binary"}}}
_NAMED = {"application/json": {"schema": PublishPolicy.model_json_schema()}}
AnyBase = Annotated[bool, Query(description="The adapter may name another base model; its shapes must fit.")]


def build_policy_routes(running: Running) -> APIRouter:
    """The routes under /v1 that concern policies, bound to the server's parts."""
    router = APIRouter(tags=["policies"])

    async def published(name: str, folder: Path, any_base_model: bool) -> PolicyVersion:
        await running.bring_up()
        try:
            return await running.service.rollouts.publish_policy(name, folder, any_base_model=any_base_model)
        except ConfigError as error:  # what is wrong with the adapter is wrong with the request, and no setting of ours
            raise InvalidOption(error.message, hint=error.hint) from error

    async def received(name: str, request: Request, any_base_model: bool) -> Response:
        folder = await running.adapters.receive(request.stream())
        try:
            policy = await published(name, folder, any_base_model)
        except BaseException:
            await running.adapters.drop(folder)
            raise
        await running.adapters.keep(policy, folder, await running.known_policies())
        return json_answer(policy_to_json(policy), 201)

    @router.post(
        _POLICY,
        status_code=201,
        responses={201: {"model": PolicyAnswer}, **errors(409, 413, 503)},
        openapi_extra={"requestBody": {"required": True, "content": _NAMED | _BINARY}},
    )
    async def publish(
        request: Request,
        name: Annotated[str | None, Query(description="The version's name, where the body is a tar.")] = None,
        any_base_model: AnyBase = False,
    ) -> Response:
        """Load an adapter and make it the current policy, without disturbing requests under way.

        JSON names a folder of the server's machine; a plain tar (`application/x-tar`, with `?name=`) is the adapter:
        `adapter_config.json`, `adapter_model.safetensors`.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip() == _TAR:
            if name is None:
                raise InvalidOption("an uploaded adapter needs a name", hint="POST /v1/policy?name=step-12")
            return await received(name, request, any_base_model)
        try:
            body = PublishPolicy.model_validate_json(await _bounded(request.stream(), running.body_limit))
        except ValidationError as error:
            raise validation_error(error.errors(include_url=False, include_input=False)) from error
        policy = await published(body.name, Path(body.adapter_path), body.any_base_model or any_base_model)
        return json_answer(policy_to_json(policy), 201)

    @router.put(
        _ADAPTERS + "{name}",
        status_code=201,
        responses={201: {"model": PolicyAnswer}, **errors(409, 413, 503)},
        openapi_extra={"requestBody": {"required": True, "content": _BINARY}},
    )
    async def upload(name: str, request: Request, any_base_model: AnyBase = False) -> Response:
        """The same as `POST /v1/policy` with a tar."""
        return await received(name, request, any_base_model)

    @router.get("/v1/policies", responses={200: {"model": PoliciesAnswer}, **errors()})
    async def policies() -> Response:
        """The known versions, oldest first; the last is current. `pinned`: how many episodes hold each."""
        return await listed()

    @router.delete("/v1/policies/{name}", responses={200: {"model": PoliciesAnswer}, **errors(404, 409)})
    async def drop(
        name: str,
        force: Annotated[bool, Query(description="Also where episodes hold it: they go on with the current.")] = False,
    ) -> Response:
        """Forget an adapter; where it was current, the version before it is. Answers what is left."""
        await running.service.rollouts.drop_policy(name, force=force)
        await running.adapters.forget(await running.known_policies())
        return await listed()

    async def listed() -> Response:
        rollouts = running.service.rollouts
        found: list[dict[str, Any]] = [policy_to_json(policy) for policy in await rollouts.policies()]
        return json_answer({"policies": found, "pinned": dict(rollouts.pinned_policies())})

    return router


async def _bounded(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise PayloadTooLarge(f"the body is larger than {limit} bytes", hint="an adapter is sent as a tar")
    return bytes(body)
