"""The console script ``envloop``: sub-commands found by entry point, each imported only when it is asked for.

A sub-command is a typer app under the entry-point group ``envloop.commands``; its one-line help is read from its source
(the ``help=`` of the app, a literal), so that ``envloop --help`` imports none of them.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from envs import __version__
from envs.errors import ConfigError, EnvloopError

__all__ = ["main"]

_GROUP = "envloop.commands"
_USAGE = """Usage: envloop [--debug] COMMAND [ARGS]...

Environment-in-the-loop reinforcement learning for language-model agents.

Commands:
{commands}

Options:
  --debug    show the traceback of an error (or set ENVLOOP_DEBUG=1)
  --version  show the version
  --help     show this; behind a command: its own help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Gives the exit status: 2 for an error that the user can mend, 130 for Ctrl-C."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = os.environ.get("ENVLOOP_DEBUG", "") not in ("", "0")
    if args[:1] == ["--debug"]:  # only in front: behind a command it is that command's own
        del args[0]
        debug = True
    try:
        return _dispatch(args)
    except (EnvloopError, ImportError) as error:
        if debug:
            raise
        shown = error if isinstance(error, EnvloopError) else _missing(error)
        if shown is None:
            raise
        _complain(shown)
        return 2
    except KeyboardInterrupt:
        return 130


def _dispatch(args: list[str]) -> int:
    commands = {entry.name: entry for entry in importlib.metadata.entry_points(group=_GROUP)}
    if not args or args[0] in ("--help", "-h", "help"):
        _say(_USAGE.format(commands=_listing(commands)))
        return 0 if args else 2
    if args[0] == "--version":
        _say(f"envloop {__version__}")
        return 0
    entry = commands.get(args[0])
    if entry is None:
        raise ConfigError(
            f"there is no command {args[0]!r}", hint=f"known: {', '.join(sorted(commands))}; see envloop --help"
        )
    app = entry.load()
    import typer.main

    try:
        result = typer.main.get_command(app).main(args[1:], prog_name=f"envloop {entry.name}")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return result if isinstance(result, int) else 0


def _listing(commands: dict[str, importlib.metadata.EntryPoint]) -> str:
    width = max(map(len, commands), default=0)
    return "\n".join(f"  {name:<{width}}  {_help_line(entry)}".rstrip() for name, entry in sorted(commands.items()))


def _help_line(entry: importlib.metadata.EntryPoint) -> str:
    """The literal ``help=`` of the entry's app, from its source: importing it might load a model library."""
    package, *rest = entry.module.split(".")
    found = importlib.util.find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found else []
    sources = [Path(folder, *rest[:-1], f"{rest[-1]}.py") for folder in folders] if rest else []
    source = next((path for path in sources if path.is_file()), None)
    if source is None:
        return "(not installed)"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        if entry.attr in [target.id for target in node.targets if isinstance(target, ast.Name)]:
            for keyword in node.value.keywords:
                if keyword.arg == "help" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value).strip().splitlines()[0]
    return ""


def _missing(error: ImportError) -> EnvloopError | None:
    """What to install for a package that is not there; None where the fault is in our own code."""
    name = (error.name or "").split(".")[0]
    if not name or name in ("envs", "rollout_server", "trainer"):
        return None
    extra = _extra_of(name)
    hint = f"install it: pip install 'envloop[{extra}]'" if extra else f"install it: pip install {name}"
    if isinstance(error, ModuleNotFoundError):
        return ConfigError(f"this command needs the package {name!r}, which is not installed", hint=hint)
    return ConfigError(f"the package {name!r} is installed but cannot be imported: {error}", hint=hint)


def _extra_of(package: str) -> str | None:
    wanted = re.sub(r"[-_.]+", "-", package).lower()
    for requirement in importlib.metadata.requires("envloop") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", requirement)
        if name and extra and re.sub(r"[-_.]+", "-", name[0]).lower() == wanted:
            return extra[1]
    return None


def _complain(error: EnvloopError) -> None:
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    red, end = ("\033[31m", "\033[0m") if colour else ("", "")
    line = f"error: {error.message}" + (f" / what to do: {error.hint}" if error.hint else "")
    sys.stderr.write(f"{red}{' '.join(line.split())}{end}\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
