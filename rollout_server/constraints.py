"""What a turn may say at all: one of the admissible commands, or a call of one of the tools, in the protocol's frame.

A constraint is a grammar of the whole turn's text in EBNF (as xgrammar reads it), which vLLM's structured outputs hold
the sampling to, token by token. The end-of-turn token may follow where, and only where, the text is complete. Any way
to cut the text into tokens is allowed: which one is taken stays the policy's choice.

Source of the syntax: xgrammar's grammar documentation ("EBNF grammar"); of JSON's strings: RFC 8259, section 7.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from envs.errors import InvalidOption
from envs.types import ToolSpec

__all__ = ["Constrain", "Constraint", "choice_constraint", "tool_constraint"]


class Constrain(StrEnum):
    """How a request's turns are constrained: not at all, to the admissible commands, or to calls of the tools."""

    NONE = "none"
    ADMISSIBLE = "admissible"
    TOOLS = "tools"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A grammar for one turn. ``choices`` counts the texts that it admits, 0 where they are without number."""

    kind: Constrain
    grammar: str
    choices: int = 0
    digest: str = field(init=False)
    """SHA-256 of the grammar (hex, 64 digits): the same digest, the same texts."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.grammar.encode()).hexdigest())


_STRING = r"""string ::= "\"" char* "\""
char ::= [^"\\\u0000-\u001f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])
integer ::= "-"? ("0" | [1-9] [0-9]*)
number ::= integer ("." [0-9]+)? ([eE] [+-]? [0-9]+)?
boolean ::= "true" | "false"
null ::= "null"
"""
_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})


def choice_constraint(texts: Iterable[str]) -> Constraint:
    """Exactly one of these texts, the whole turn. Raises InvalidOption for none."""
    choices = list(dict.fromkeys(texts))
    if not choices:
        raise InvalidOption("there is nothing to choose from", hint="constrain only where commands are listed")
    return Constraint(Constrain.ADMISSIBLE, f"root ::= {' | '.join(map(_literal, choices))}\n", len(choices))


def tool_constraint(tools: Sequence[ToolSpec]) -> Constraint:
    """Exactly one call of one of the tools as Qwen's templates write it, its arguments as the tool's schema says.

    Every property is written, in the schema's order. Raises InvalidOption for a schema with more than objects,
    arrays, enumerations and plain types.
    """
    calls = []
    for tool in tools:
        head = _literal(f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": ')
        calls.append(f"{head} {_schema(tool.parameters, tool.name)}")
    root = f'root ::= "<tool_call>\\n" ({" | ".join(calls)}) "}}\\n</tool_call>"\n'
    return Constraint(Constrain.TOOLS, root + _STRING)


def _schema(schema: Any, where: str) -> str:
    """A JSON Schema as an expression of the grammar."""
    if "enum" in schema:
        values = [_literal(json.dumps(value, ensure_ascii=False)) for value in schema["enum"]]
        return f"({' | '.join(values)})"
    kind = schema.get("type")
    if isinstance(kind, list | tuple):
        return f"({' | '.join(_schema({**schema, 'type': one}, where) for one in kind)})"
    if kind in _SCALARS:
        return str(kind)
    if kind == "array":
        item = _schema(schema.get("items", {"type": "string"}), f"{where}[]")
        return f'"[" ({item} (", " {item})*)? "]"'
    if kind == "object":
        parts = [
            f"{_literal(json.dumps(name, ensure_ascii=False) + ': ')} {_schema(value, f'{where}.{name}')}"
            for name, value in schema.get("properties", {}).items()
        ]
        return f'"{{" {' ", " '.join(parts)} "}}"'
    raise InvalidOption(
        f"the schema of {where} cannot be constrained to: {dict(schema)}",
        hint="objects, arrays, enumerations and plain types can; or leave the turns free: constrain = none",
    )


def _literal(text: str) -> str:
    """A text as a string of the grammar."""
    escapes = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
    return '"' + re.sub(r'[\x00-\x1f\x7f"\\]', lambda m: escapes.get(m[0], f"\\u{ord(m[0]):04x}"), text) + '"'
