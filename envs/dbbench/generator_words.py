"""How questions are worded: conditions, columns and whole sentences, combined from parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

from envs.dbbench.generator_draft import Level, Reason, Rejected
from envs.dbbench.generator_query import Condition, Op, Query, Ref
from envs.dbbench.generator_scene import Join, Scene, SceneTable, long_date

__all__ = ["Speech", "bound_text", "join_words"]

type _Style = Literal["whose", "with", "where"]

_STYLES: tuple[_Style, ...] = ("whose", "whose", "with", "where")
_NUMBER_WORDS: dict[str, tuple[str, ...]] = {
    ">": ("greater than", "more than", "above", "over", "larger than"),
    "<": ("smaller than", "less than", "below", "under"),
    ">=": ("at least", "no less than"),
    "<=": ("at most", "no more than"),
    "=": ("equal to", "of exactly"),
}
_DATE_WORDS: dict[str, tuple[str, ...]] = {
    ">": ("after", "later than"),
    "<": ("before", "earlier than"),
    ">=": ("on or after",),
    "<=": ("on or before",),
}
_OPENERS = (
    "", "", "", "", "", "", "Please help me: ", "Quick question. ", "I am preparing a report. ", "Hello! ",
    "One more thing I need to know. ", "For our records: ",
)  # fmt: skip
_ORDERS = (
    "",
    "",
    "",
    "",
    "",
    "",
    "Please do this for me. ",
    "There is a change to make. ",
    "Hello! ",
    "A correction: ",
)
_CLOSERS = ("", "", "", "", "", "", "", " Thanks.", " I need it for a meeting.", " Thank you!")


def join_words(parts: Sequence[str], word: str = "and") -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


class Speech:
    """The words of one task, with habits drawn once: how values are quoted, how dates are written."""

    def __init__(self, scene: Scene, level: Level) -> None:
        self.scene = scene
        self.level = level
        self.draw = scene.draw
        self._quoted = self.draw.chance(0.25)
        self._long_dates = self.draw.chance(0.5)
        self.role_said = True
        self.plain = False  # without openings and closings, for a sentence within another

    @property
    def main(self) -> SceneTable:
        """The table that questions are about."""
        return self.scene.tables[self.scene.main]

    @property
    def title(self) -> str:
        """How the main table is called in a sentence."""
        name = self.main.table.name
        return self.draw.choice((f"the {name} table", f"the table '{name}'", f"'{name}'", f"the table {name}"))

    def said(self, ref: Ref) -> str:
        """A column as it is called in a sentence."""
        return self.scene.tables[ref.table].fields[ref.column].said

    def one(self, ref: Ref, word: str = "") -> str:
        """``a price``, ``a higher price``, ``an owner``; ``visitors`` has no article."""
        name = f"{word} {self.said(ref)}" if word else self.said(ref)
        return name if _plural(self.said(ref)) else f"{_article(name)}{name}"

    @staticmethod
    def a(name: str) -> str:
        """The name with its article."""
        return f"{_article(name)}{name}"

    def value(self, ref: Ref, text: str) -> str:
        """A cell's text in a sentence: quoted by habit, a date as people write it."""
        field = self.scene.tables[ref.table].fields[ref.column]
        if field.kind == "date" and not field.text and self._long_dates:
            return long_date(text)
        unclear = text.endswith(".") or " and " in text or " or " in text  # within a sentence
        if (self._quoted or unclear) and not field.numeric:
            return self.quoted(text)
        return text

    @staticmethod
    def quoted(text: str) -> str:
        """The text within quotes that it does not hold itself."""
        return f'"{text}"' if "'" in text else f"'{text}'"

    def pick(self, *templates: str) -> str:
        """One of several ways to say it."""
        return self.draw.choice(templates)

    def ask(self, text: str) -> str:
        """A question as someone says it: with or without an opening, a closing, capitals and the mark at the end."""
        draw = self.draw
        text = text[0].upper() + text[1:]
        if draw.chance(0.12):  # as wikitq's questions are written
            words = text.split(" ")
            if words[0].istitle():
                return " ".join([words[0].lower(), *words[1:]])
        if self.level is not Level.EASY or draw.chance(0.5):
            return draw.choice(_OPENERS) + text + (draw.choice(_CLOSERS) if text.endswith("?") else "")
        return text

    def order(self, text: str) -> str:
        """A change as someone asks for it."""
        return ("" if self.plain else self.draw.choice(_ORDERS)) + text[0].upper() + text[1:]

    # Conditions.

    def clause(self, where: Sequence[Condition], base: int, style: _Style | None = None) -> str:
        """``whose genre is Drama and whose runtime is over 120``; nothing where nothing is asked."""
        asked = [condition for condition in where if condition.op != "not null"]
        if not asked:
            return ""
        manner = self.draw.choice(_STYLES) if style is None else style
        if manner == "with" and any(condition.ref.table != base for condition in asked):
            manner = "whose"  # "with a department's city of Celle" is no English
        parts = [self.condition(condition, base, manner) for condition in asked]
        match manner:
            case "whose":
                return join_words([f"whose {part}" for part in parts])
            case "with":
                return f"with {join_words(parts)}"
        return f"where the {join_words(parts, 'and the')}"

    def condition(self, condition: Condition, base: int, style: _Style) -> str:
        """One condition, without the word that leads it in."""
        name = self.path(condition.ref, base)
        ref, op, value = condition.ref, condition.op, condition.value
        assert not isinstance(value, Query)
        with_article = style == "with"
        many = _plural(name)
        is_ = "are" if many else "is"
        subject = f"{'' if many else _article(name)}{name}" if with_article else name
        be = "" if with_article else f" {is_}"
        if isinstance(value, tuple):
            shown = [self.value(ref, text) for text in value]
            if op == "in":
                return f"{subject}{' of' if with_article else be} {join_words(shown, 'or')}"
            return f"{subject}{be} between {shown[0]} and {shown[1]}" + self.pick("", " (both included)")
        match op:
            case "null":
                return f"{name} missing (NULL)" if with_article else f"{name} {is_} not known (NULL)"
            case "contains":
                lead = subject if with_article else name
                verb = "containing" if with_article else "contain" if many else "contains"
                return f"{lead} {verb} {self.quoted(value)}"
            case "year":
                return f"{subject} in {value}" if with_article else f"{name} {self.pick('is in', 'falls in')} {value}"
            case "=":
                return (
                    f"{subject} of {self.value(ref, value)}"
                    if with_article
                    else f"{name} {is_} {self.value(ref, value)}"
                )
            case "<>":
                return f"{subject}{be} other than {self.value(ref, value)}"
        return f"{subject}{be} {self.comparison(ref, op)} {self.value(ref, value)}"

    def comparison(self, ref: Ref, op: Op) -> str:
        """``greater than`` or ``after``, in one of the ways to say it."""
        is_date = self.scene.tables[ref.table].fields[ref.column].kind == "date"
        return self.draw.choice((_DATE_WORDS if is_date else _NUMBER_WORDS)[op])

    def path(self, ref: Ref, base: int) -> str:
        """The column as seen from a row of ``base``: ``studio's country``."""
        if ref.table == base:
            return self.said(ref)
        for join in self.scene.joins:
            if join.child == base:
                if join.parent == ref.table:
                    return f"{self.role(join)}'s {self.said(ref)}"
                further = [
                    other for other in self.scene.joins if (other.child, other.parent) == (join.parent, ref.table)
                ]
                if further:
                    return f"{self.role(join)}'s {self.role(further[0])}'s {self.said(ref)}"
        raise Rejected(Reason.NO_MATERIAL)

    def role(self, join: Join) -> str:
        """What the parent is to the child: its role, or loosely only what it is."""
        return join.said if self.role_said else self.scene.tables[join.parent].row

    # What to ask for.

    def filters(self, table: int, least: int, most: int, *, avoid: Sequence[int] = ()) -> tuple[Condition, ...]:
        """Conditions on different columns of a table, at random. Raises Rejected where it has too few."""
        draw, count = self.draw, self.draw.between(least, most)
        fields = self.scene.tables[table].fields
        able = [
            i
            for i, field in enumerate(fields)
            if i not in avoid and field.kind in ("category", "number", "date") and not field.code
        ]
        if len(able) < count:
            raise Rejected(Reason.NO_MATERIAL)
        return tuple(self.filter(Ref(table, column)) for column in draw.sample(able, count))

    def filter(self, ref: Ref) -> Condition:
        """A condition on this column that some rows keep."""
        draw = self.draw
        table = self.scene.tables[ref.table]
        field = table.fields[ref.column]
        present = [
            (row[ref.column], text[ref.column]) for row, text in zip(table.values, table.table.rows, strict=True)
        ]
        known = [(value, text) for value, text in present if value is not None and text]
        if len(known) < 4:
            raise Rejected(Reason.NO_MATERIAL)
        if field.kind == "category":
            texts = list(dict.fromkeys(text for _, text in known if text))
            if len(texts) > 3 and draw.chance(0.15) and self.level is not Level.EASY:
                return Condition(ref, "in", tuple(draw.sample(texts, 2)))
            if draw.chance(0.08):
                return Condition(ref, "<>", draw.choice(texts))
            return Condition(ref, "=", draw.choice(texts))
        if field.kind == "date":
            return self._date_filter(ref, sorted(str(value) for value, _ in known), [text or "" for _, text in known])
        values = sorted({value for value, _ in known if isinstance(value, Decimal)})
        if len(values) < 4:
            return Condition(ref, "=", f"{draw.choice(values):f}")
        if draw.chance(0.15):
            low = draw.below(len(values) // 2)
            high = draw.between(low + 1, len(values) - 2)
            return Condition(
                ref, "between", (bound_text(values, low, field.places), bound_text(values, high, field.places))
            )
        op: Op = draw.choice((">", "<", ">", "<", ">=", "<="))
        return Condition(ref, op, bound_text(values, draw.between(0, len(values) - 2), field.places))

    def _date_filter(self, ref: Ref, values: list[str], texts: list[str]) -> Condition:
        draw, field = self.draw, self.scene.tables[ref.table].fields[ref.column]
        form = draw.below(4)
        if form == 0 or (field.long and form < 3):
            return Condition(ref, "year", draw.choice(values)[:4])
        if field.long:
            return Condition(ref, "=", draw.choice(texts))
        first = draw.below(len(values) - 1)
        if form == 1:
            last = draw.between(first, len(values) - 1)
            return Condition(ref, "between", (f"{values[first][:8]}01", f"{values[last][:8]}28"))
        op: Op = draw.choice((">", "<", ">=", "<="))
        return Condition(ref, op, f"{values[first][:7]}-{draw.between(1, 28):02d}")


def _article(name: str) -> str:
    return "an " if name[0].lower() in "aeio" or name[:2].lower() in ("un", "up") else "a "


_HEAD = re.compile(r" (?:of|on|to|per|a|for|in|by)\b|\(")


def _plural(name: str) -> bool:
    """Whether the head of a column's name is a plural: ``Weeks on chart``, not ``No. of pages`` and not ``class``."""
    head = _HEAD.split(name, maxsplit=1)[0].strip().rpartition(" ")[2].lower()
    return head.endswith("s") and not head.endswith(("ss", "us", "'s"))


def bound_text(values: Sequence[Decimal], place: int, places: int) -> str:
    """A bound between the value at ``place`` and the next, as round as there is room for."""
    low, high = values[place], values[place + 1]
    middle = (low + high) / 2
    for digits in range(-5, places + 1):
        rounded = middle.quantize(Decimal(1).scaleb(-digits)) if digits else middle.to_integral_value()
        if low < rounded < high:
            return f"{rounded:f}" if digits > 0 else f"{int(rounded)}"
    return f"{low:f}"
