"""The client of a rollout server: a ``RolloutService`` over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, Unpack
from urllib.parse import quote

import httpx

from envs.errors import EnvloopError, InvalidOption, TransportError, error_from_json
from envs.wire import task_from_json
from rollout_server.serialize import dumps, episode_from_json, policy_from_json, request_to_json
from rollout_server.server.adapters import pack_adapter
from rollout_server.service import EpisodeCallback
from rollout_server.types import Episode, Group, PolicyVersion, RolloutRequest

if TYPE_CHECKING:
    from rollout_server.episode_filters import EpisodeFilters
    from rollout_server.episode_store import EpisodeSummary
    from rollout_server.replay_fork_many import ForkOptions
    from rollout_server.store_stats import EpisodeStats

__all__ = ["RolloutClient"]

_CHUNK = 1 << 20


class RolloutClient:
    """Plays on a rollout server and publishes adapters to it.

    ``transport`` replaces the network. ``shared_files``: the server reads adapters from this machine's own paths, so
    nothing is uploaded. ``timeout_s`` bounds the silence of the server, not a rollout: it shows life every ten seconds.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        timeout_s: float = 60.0,
        shared_files: bool = False,
    ) -> None:
        self._shared_files = shared_files
        self._http = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            transport=transport,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
            trust_env=False,  # no proxy between a trainer and its server unless given as a transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The server goes on."""
        await self._http.aclose()

    async def rollouts(self, request: RolloutRequest, *, on_episode: EpisodeCallback | None = None) -> Sequence[Group]:
        """Play the request; see ``RolloutService.rollouts``. Cancelling ends the episodes on the server as well.

        Raises the server's errors, and TransportError where the connection breaks.
        """
        episodes: dict[str, Episode] = {}
        headers = {"Accept": "application/x-ndjson", "Content-Type": "application/json"}
        content = dumps(request_to_json(request))
        with _transport_errors("POST /v1/rollouts"):
            async with self._http.stream("POST", "/v1/rollouts", content=content, headers=headers) as response:
                if not response.is_success:
                    await response.aread()
                    raise _error(response)
                async for line in response.aiter_lines():
                    if not line.strip():
                        continue
                    message = _message(line)
                    if "episode" in message:
                        episode = _episode(message["episode"])
                        episodes[episode.id] = episode
                        if on_episode is not None:
                            on_episode(episode)
                    elif "groups" in message:
                        return _groups(message["groups"], episodes)
                    else:
                        raise error_from_json(message, http_status=500)
        raise TransportError("the server's answer ended before the rollouts did", hint="see the server's log")

    async def publish_policy(self, name: str, adapter_path: Path, *, any_base_model: bool = False) -> PolicyVersion:
        """Upload an adapter (or name its folder, with ``shared_files``) and make it the server's current policy.

        ``any_base_model``: it may name another base model than the server's.
        """
        if self._shared_files:
            folder = str(await asyncio.to_thread(adapter_path.absolute))
            body = {"name": name, "adapter_path": folder, "any_base_model": any_base_model}
            return _policy(await self._send("POST", "/v1/policy", json=body))
        with tempfile.TemporaryFile() as archive:
            await asyncio.to_thread(pack_adapter, adapter_path, archive)
            size = archive.tell()
            archive.seek(0)
            headers = {"Content-Type": "application/x-tar", "Content-Length": str(size)}
            path, query = f"/v1/adapters/{quote(name, safe='')}", {"any_base_model": any_base_model}
            return _policy(await self._send("PUT", path, params=query, content=_chunks(archive), headers=headers))

    async def policies(self) -> Sequence[PolicyVersion]:
        """The known versions, oldest first; the last is current."""
        return _policies(await self._send("GET", "/v1/policies"))

    async def drop_policy(self, name: str, *, force: bool = False) -> Sequence[PolicyVersion]:
        """Have the server forget an adapter, with ``force`` under the episodes that hold it. Answers what is left."""
        path = f"/v1/policies/{quote(name, safe='')}"
        return _policies(await self._send("DELETE", path, params={"force": force}))

    async def episode(self, episode_id: str) -> Episode:
        """A stored episode by id or its unique beginning. Raises UnknownEpisode."""
        return _episode(await self._send("GET", f"/v1/episodes/{quote(episode_id, safe='')}"))

    async def episodes(
        self, *, limit: int = 100, offset: int = 0, **filters: Unpack[EpisodeFilters]
    ) -> tuple[list[EpisodeSummary], int]:
        """A page of the stored episodes that match, the newest first, and how many match. Raises InvalidOption."""
        from rollout_server.episode_store import summary_from_json  # here: other uses need no database library

        query = [("limit", str(limit)), ("offset", str(offset)), *_pairs(filters)]
        answer = await self._send("GET", "/v1/episodes", params=query)
        try:
            return [summary_from_json(document) for document in answer["episodes"]], int(answer["total"])
        except (KeyError, TypeError, ValueError) as error:
            raise TransportError(f"the server's answer is no page of episodes: {error}") from error

    async def stats(self, by: Sequence[str] = (), **filters: Unpack[EpisodeFilters]) -> list[EpisodeStats]:
        """Figures of the stored episodes that match, a row for each combination of the keys. Raises InvalidOption."""
        from rollout_server.store_stats import EpisodeStats  # here: other uses need no database library

        query = [("by", key) for key in by] + _pairs(filters)
        answer = await self._send("GET", "/v1/stats", params=query)
        try:
            return [EpisodeStats(**document) for document in answer["stats"]]
        except (KeyError, TypeError) as error:
            raise TransportError(f"the server's answer holds no figures: {error}") from error

    async def fork(self, episode_id: str, options: ForkOptions, *, policy: str | None = None) -> list[Episode]:
        """Go on from a turn of a stored episode with a policy of the server (None: the current one).

        Raises: UnknownEpisode, UnknownPolicy, InvalidOption, Conflict (see ``fork_episode``).
        """
        body = {**asdict(options), "policy": policy}
        answer = await self._send("POST", f"/v1/episodes/{quote(episode_id, safe='')}/fork", json=body, timeout=None)
        found = answer.get("episodes")
        if not isinstance(found, list):
            raise TransportError("the server's answer has no list of episodes")
        return [_episode(document) for document in found]

    async def _send(self, method: str, path: str, **arguments: Any) -> Any:
        with _transport_errors(f"{method} {path}"):
            response = await self._http.request(method, path, **arguments)
            if not response.is_success:
                raise _error(response)
            return _message(response.text)


@contextlib.contextmanager
def _transport_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise TransportError(
            f"{what} failed: {type(error).__name__} {error}".rstrip(),
            hint="check the address, and that 'envloop rollout serve' is running there",
        ) from error


async def _chunks(archive: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(archive.read, _CHUNK):
        yield chunk


def _pairs(filters: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in filters.items():
        values = [] if value is None else value if isinstance(value, list | tuple) else [value]
        pairs += [(name, one.isoformat() if isinstance(one, datetime) else str(one)) for one in values]
    return pairs


def _error(response: httpx.Response) -> EnvloopError:
    try:
        body = response.json()
    except ValueError:
        body = None  # a foreign answer: becomes a TransportError that names the status
    return error_from_json(body, http_status=response.status_code)


def _message(text: str) -> Any:
    try:
        message = json.loads(text)
    except ValueError as error:
        raise TransportError("the server's answer is not JSON", hint="check the address") from error
    if not isinstance(message, dict):
        raise TransportError("the server's answer is no JSON object", hint="check the address")
    return message


def _episode(document: Any) -> Episode:
    try:
        return episode_from_json(document)
    except InvalidOption as error:
        raise TransportError(f"the server's episode cannot be read: {error.message}", hint=error.hint) from error


def _policy(document: Any) -> PolicyVersion:
    try:
        return policy_from_json(document)
    except InvalidOption as error:
        raise TransportError(f"the server's policy cannot be read: {error.message}", hint=error.hint) from error


def _policies(answer: Any) -> tuple[PolicyVersion, ...]:
    found = answer.get("policies")
    if not isinstance(found, list):
        raise TransportError("the server's answer has no list of policies")
    return tuple(_policy(policy) for policy in found)


def _groups(outlines: Any, episodes: dict[str, Episode]) -> tuple[Group, ...]:
    try:
        return tuple(
            Group(o["id"], task_from_json(o["task"]), tuple(episodes[name] for name in o["episodes"])) for o in outlines
        )
    except (KeyError, TypeError) as error:
        raise TransportError(f"the server's groups do not fit its episodes: {error}") from error
