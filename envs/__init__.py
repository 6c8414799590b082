"""envs: environments for language-model agents behind an HTTP API.

Importing this package loads no environment, no database driver and no model library.
"""

from envs.base import EnvFamily, Environment
from envs.errors import EnvloopError
from envs.types import Action, EnvSpec, EpisodeStatus, Observation, Split, SplitRole, StepResult, Task, ToolSpec

__all__ = [
    "Action",
    "EnvFamily",
    "EnvSpec",
    "Environment",
    "EnvloopError",
    "EpisodeStatus",
    "Observation",
    "Split",
    "SplitRole",
    "StepResult",
    "Task",
    "ToolSpec",
    "__version__",
]

__version__ = "0.1.0"
