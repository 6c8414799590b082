"""The basic level of generated tasks: one small table, a closed vocabulary of about 100 words, few ways to ask.

For models of a few million weights that learn all they know from these tasks, and for first runs of anything. Every
name and value is one word, no number in a table is above 30, and each kind of task is put in two ways. The statements
are those of easy tasks in AgentBench's manner, and so are the rules that reject a draw (``generator_checks``).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import partial

from envs.dbbench.generator_change import Delete, Insert, Update
from envs.dbbench.generator_draft import Draft, Level, Reason, Rejected
from envs.dbbench.generator_draw import Draw
from envs.dbbench.generator_material import Intent, Offer, a_category, a_number, a_row, names
from envs.dbbench.generator_query import Agg, Condition, Query, Ref
from envs.dbbench.generator_scene import Field, Scene, SceneTable, parse_cells
from envs.dbbench.generator_words import Speech, bound_text
from envs.dbbench.tables import Table

__all__ = ["BASIC_OFFERS", "draw_basic_scene"]


_ROW, _ROWS = "product", "products"
_NAMES = (
    "Lamp", "Chair", "Clock", "Mirror", "Carpet", "Kettle", "Pillow", "Basket", "Candle", "Bucket", "Ladder", "Hammer",
    "Pencil", "Vase", "Drum", "Kite",
)  # fmt: skip
_CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "colour": ("red", "blue", "green", "white", "black"),
    "shop": ("North", "South", "East", "West"),
}
_NUMBERS = ("price", "stock")
_FEWEST, _MOST = 6, 10  # rows
_SPARE = 2
_HIGHEST = 30


def draw_basic_scene(draw: Draw) -> Scene:
    """One table with a name, one or two categories and one or two numbers, every column TEXT."""
    count = draw.between(_FEWEST, _MOST)
    chosen = draw.sample(_NAMES, count + _SPARE)
    categories = draw.sample(tuple(_CATEGORIES), draw.between(1, 2))
    numbers = draw.sample(_NUMBERS, draw.between(1, 3 - len(categories)))
    made: list[tuple[Field, list[str]]] = [(Field("name", "name", "name"), chosen[:count])]
    for column, values in _CATEGORIES.items():
        if column in categories:
            made.append((Field(column, column, "category"), [draw.choice(values) for _ in range(count)]))
    for column in _NUMBERS:
        if column in numbers:
            cells = [str(draw.between(1, _HIGHEST)) for _ in range(count)]
            made.append((Field(column, column, "number", additive=True), cells))
    fields = tuple(field for field, _ in made)
    rows = tuple(zip(*(cells for _, cells in made), strict=True))
    table = Table(_ROWS, tuple(field.name for field in fields), rows)
    filled = SceneTable(_ROW, _ROWS, table, fields, parse_cells(fields, rows))
    return Scene(draw, "basic", (filled,), (), 0, tuple(chosen[count:]))


def _of(speech: Speech, ref: Ref) -> tuple[str, Condition]:
    """``with the colour 'red'`` of a category that some row has, as words and as a condition."""
    text = speech.draw.choice([row[ref.column] for row in speech.main.table.rows])
    assert text is not None
    return f"with the {speech.said(ref)} '{text}'", Condition(ref, "=", text)


def _lookup(speech: Speech) -> Draft:
    name, text = a_row(speech)
    wanted = Ref(name.table, speech.draw.choice(speech.main.of_kind("category", "number")))
    said, row = speech.said(wanted), speech.main.row
    question = speech.pick(f"What is the {said} of '{text}'?", f"Find the {said} of the {row} '{text}'.")
    return Draft("lookup", question, Query(name.table, (wanted,), where=(Condition(name, "=", text, named=False),)))


def _filter(speech: Speech) -> Draft:
    words, condition = _of(speech, a_category(speech))
    rows = speech.main.rows
    question = speech.pick(f"Which are the {rows} {words}?", f"List all {rows} {words}.")
    return Draft("filter", question, Query(speech.scene.main, (names(speech),), where=(condition,)))


def _count(speech: Speech) -> Draft:
    words, condition = _of(speech, a_category(speech))
    rows = speech.main.rows
    question = speech.pick(f"How many {rows} {words} are there?", f"Count the {rows} {words}.")
    return Draft("count", question, Query(speech.scene.main, (Agg("COUNT"),), where=(condition,)))


def _compare(speech: Speech) -> Draft:
    number = a_number(speech)
    values = sorted({value for row in speech.main.values if isinstance(value := row[number.column], Decimal)})
    if len(values) < 4:
        raise Rejected(Reason.NO_MATERIAL)
    above = speech.draw.chance(0.5)
    bound = bound_text(values, speech.draw.below(len(values) - 1), 0)
    word, said, rows = "above" if above else "below", speech.said(number), speech.main.rows
    question = speech.pick(
        f"Which {rows} have a {said} {word} {bound}?", f"List all {rows} with a {said} {word} {bound}."
    )
    where = (Condition(number, ">" if above else "<", bound),)
    return Draft("compare", question, Query(speech.scene.main, (names(speech),), where=where))


def _top(speech: Speech) -> Draft:
    number, most = a_number(speech), speech.draw.chance(0.5)
    word, said, row = "highest" if most else "lowest", speech.said(number), speech.main.row
    question = speech.pick(f"Which {row} has the {word} {said}?", f"Find the {row} with the {word} {said}.")
    query = Query(number.table, (names(speech),), order=number, descending=most, limit=1)
    return Draft("top", question, query)


_CALLED = {"SUM": "total", "MIN": "lowest", "MAX": "highest", "AVG": "average"}


def _aggregate(speech: Speech, function: str) -> Draft:
    number, word, rows = a_number(speech), _CALLED[function], speech.main.rows
    said = speech.said(number)
    where: tuple[Condition, ...] = ()
    words = f"all {rows}"
    if speech.draw.chance(0.5):
        more, condition = _of(speech, a_category(speech))
        words, where = f"the {rows} {more}", (condition,)
    question = speech.pick(f"What is the {word} {said} of {words}?", f"Calculate the {word} {said} of {words}.")
    return Draft("aggregate", question, Query(number.table, (Agg(function, number),), where=where))


def _insert(speech: Speech) -> Draft:
    fields, rows = speech.main.fields, speech.main.table.rows
    values = [speech.scene.spare[0] if f.kind == "name" else speech.draw.choice(rows)[i] for i, f in enumerate(fields)]
    pairs = ", ".join(f"{field.name} '{value}'" for field, value in zip(fields, values, strict=True))
    row, title = speech.main.row, speech.main.rows
    order = speech.pick(f"Add a {row} with {pairs}.", f"Insert into {title}: {pairs}.")
    change = Insert(speech.scene.main, tuple(range(len(fields))), (tuple(values),))
    return Draft("insert", order, changes=(change,))


def _new_value(speech: Speech) -> tuple[int, str]:
    """A column that may be set, and a value that some row has there."""
    column = speech.draw.choice(speech.main.of_kind("category", "number"))
    text = speech.draw.choice(speech.main.table.rows)[column]
    assert text is not None
    return column, text


def _update(speech: Speech) -> Draft:
    name, text = a_row(speech)
    column, value = _new_value(speech)
    said = speech.main.fields[column].said
    order = speech.pick(f"Set the {said} of '{text}' to '{value}'.", f"Change the {said} of '{text}' to '{value}'.")
    change = Update(name.table, ((column, value),), (Condition(name, "=", text, named=False),))
    return Draft("update", order, changes=(change,))


def _update_filtered(speech: Speech) -> Draft:
    category = a_category(speech)
    words, condition = _of(speech, category)
    column, value = _new_value(speech)
    if column == category.column:
        raise Rejected(Reason.NO_MATERIAL)
    said, rows = speech.main.fields[column].said, speech.main.rows
    order = speech.pick(
        f"Set the {said} of all {rows} {words} to '{value}'.", f"Change the {said} of all {rows} {words} to '{value}'."
    )
    return Draft("update filtered", order, changes=(Update(category.table, ((column, value),), (condition,)),))


def _delete(speech: Speech) -> Draft:
    name, text = a_row(speech)
    row = speech.main.row
    order = speech.pick(f"Delete the {row} '{text}'.", f"Remove the {row} '{text}'.")
    return Draft("delete", order, changes=(Delete(name.table, (Condition(name, "=", text, named=False),)),))


def _delete_filtered(speech: Speech) -> Draft:
    words, condition = _of(speech, a_category(speech))
    rows = speech.main.rows
    order = speech.pick(f"Delete all {rows} {words}.", f"Remove all {rows} {words}.")
    return Draft("delete filtered", order, changes=(Delete(speech.scene.main, (condition,)),))


def _offers(*intents: Intent) -> tuple[Offer, ...]:
    return tuple(Offer(intent, (Level.EASY,)) for intent in intents)


BASIC_OFFERS: Mapping[str, tuple[Offer, ...]] = {
    "other": _offers(_lookup, _filter),
    "counting": _offers(_count),
    "comparison": _offers(_compare),
    "ranking": _offers(_top),
    **{f"aggregation-{function}": _offers(partial(_aggregate, function=function)) for function in _CALLED},
    "INSERT": _offers(_insert),
    "UPDATE": _offers(_update, _update_filtered),
    "DELETE": _offers(_delete, _delete_filtered),
}
"""The intents of each type of task."""
