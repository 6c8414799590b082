"""Turns held to the commands that an environment admits now, each as its protocol writes it."""

from __future__ import annotations

from envs.errors import InvalidOption
from envs.types import Action, EnvSpec, Observation
from rollout_server.constraints import Constrain, Constraint, choice_constraint
from rollout_server.protocols.base import AgentProtocol

__all__ = ["admissible_constraint"]

_LISTING = ("alfworld",)  # the environments that list what they admit


def admissible_constraint(
    protocol: AgentProtocol, env: EnvSpec, kind: Constrain, observation: Observation | None
) -> Constraint | None:
    """See ``AgentProtocol.constraint``. A view that lists nothing leaves its turn free."""
    if kind is Constrain.NONE:
        return None
    if env.name not in _LISTING:
        raise InvalidOption(
            f"{env.name} lists no admissible commands", hint="constrain = tools holds a turn to the tools' schemas"
        )
    if observation is None or not observation.admissible_actions:
        return None
    tool = env.tools[0]
    argument = next(iter(tool.parameters["properties"]))
    actions = (Action(tool.name, {argument: text}) for text in observation.admissible_actions)
    return choice_constraint(protocol.render_action(env, action) for action in actions)
