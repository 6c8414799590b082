"""Game files broken at random, for tests: a line or a word gone, doubled, swapped, or the text cut short."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Any

_WORD = re.compile(r"[()]|[^\s()]+")


def drop_line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def double_line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return "\n".join(lines)


def swap_words(rng: random.Random, text: str) -> str:
    first, second = sorted(rng.sample(list(_WORD.finditer(text)), 2), key=lambda word: word.start())
    return (
        text[: first.start()]
        + second.group()
        + text[first.end() : second.start()]
        + first.group()
        + text[second.end() :]
    )


def copy_word(rng: random.Random, text: str) -> str:
    words = list(_WORD.finditer(text))
    target, source = rng.choice(words), rng.choice(words)
    return text[: target.start()] + source.group() + text[target.end() :]


def drop_word(rng: random.Random, text: str) -> str:
    word = rng.choice(list(_WORD.finditer(text)))
    return text[: word.start()] + text[word.end() :]


def replace_word_everywhere(rng: random.Random, text: str) -> str:
    one, other = rng.choices(list(_WORD.finditer(text)), k=2)
    return text.replace(one.group(), other.group())


def truncate(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text))]


def insert_junk(rng: random.Random, text: str) -> str:
    place = rng.randrange(len(text))
    return (
        text[:place]
        + rng.choice(["(", ")", "-", ";", "?", "\x00", "ö", "\ud800", "{", '"', "\\", "(and)", "=", "\n"])
        + text[place:]
    )


def change_letter(rng: random.Random, text: str) -> str:
    place = rng.randrange(len(text))
    return text[:place] + rng.choice("abcxyz_019 ") + text[place + 1 :]


MUTATIONS: tuple[Callable[[random.Random, str], str], ...] = (
    *(drop_line, double_line, swap_words, copy_word, drop_word),
    *(replace_word_everywhere, truncate, insert_junk, change_letter),
)
BROKEN_VALUES = (None, 0, [], {}, "", "x", ["look"], True)


def mutate(rng: random.Random, data: Mapping[str, Any]) -> dict[str, Any]:
    """The game with one to three changes, most of them in its problem."""
    changed = dict(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        key = rng.choice(("pddl_problem",) * 8 + ("grammar", "pddl_domain", "solvable", "walkthrough"))
        if rng.random() < 0.02 or not isinstance(changed.get(key), str):
            changed[key] = rng.choice(BROKEN_VALUES)
        elif len(changed[key].split()) > 2:
            changed[key] = rng.choice(MUTATIONS)(rng, changed[key])
    return changed
