"""``envloop env generate ENV``: one command for each environment that makes files; without a name, alfworld's."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from envs.alfworld.generate_command import generate_command
from envs.dbbench.generate_command import generate_tasks_command

__all__ = ["generate_app"]


class _ByEnvironment(TyperGroup):
    """Takes ``dbbench`` for what it is and leaves all else to alfworld's command, which was there first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["alfworld", *args]
        return super().parse_args(ctx, args)


generate_app = typer.Typer(cls=_ByEnvironment, help="Write generated games or tasks as files.", add_completion=False)
generate_app.command("alfworld")(generate_command)
generate_app.command("dbbench")(generate_tasks_command)
