"""OpenEnv's own clients, driven by a test in another process: one JSON command a line in, one JSON answer a line out.

Run by an interpreter that has ``openenv`` and nothing of ours. Commands: ``{"do", "client", …}`` with do: open, reset,
step, state, drop (the socket is gone without a word), close, tools, call, validate.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from openenv.cli._validation import validate_running_environment
from openenv.core.generic_client import GenericEnvClient
from openenv.core.mcp_client import MCPToolClient

KINDS = {"generic": GenericEnvClient, "mcp": MCPToolClient}
CLIENTS: dict[str, Any] = {}


def shown(result: Any) -> dict[str, Any]:
    """A StepResult as JSON."""
    observation = result.observation
    if not isinstance(observation, dict):
        observation = observation.model_dump()
    return {
        "text": observation["text"],
        "admissible_actions": observation["admissible_actions"],
        "reward": result.reward,
        "done": result.done,
        "metadata": result.metadata,
    }


async def done(command: dict[str, Any]) -> Any:
    """What a command gives."""
    do, name = command["do"], command["client"]
    if do == "validate":
        return await asyncio.to_thread(validate_running_environment, command["url"])
    if do == "open":
        made = KINDS[command.get("kind", "generic")](base_url=command["url"], headers=command.get("headers"))
        CLIENTS[name] = made
        await made.connect()
        return None
    if do == "close":
        if name in CLIENTS:
            await CLIENTS.pop(name).close()
        return None
    client = CLIENTS[name]
    if do == "reset":
        return shown(await client.reset(**command.get("with", {})))
    if do == "step":
        return shown(await client.step(command["action"]))
    if do == "state":
        state = await client.state()
        return state if isinstance(state, dict) else state.model_dump()
    if do == "drop":
        client._ws.transport.abort()
        await asyncio.sleep(0.05)
        return None
    if do == "tools":
        return [tool.name for tool in await client.list_tools(use_cache=False)]
    return await client.call_tool(command["tool"], **command["arguments"])


async def main() -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    print(json.dumps({"ready": True}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer = {"ok": await done(json.loads(line))}
        except Exception as error:  # noqa: BLE001 - the test judges it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


asyncio.run(main())
