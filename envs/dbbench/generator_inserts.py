"""Intents of insertions, alone and followed by another change."""

from __future__ import annotations

from envs.dbbench.generator_change import Insert
from envs.dbbench.generator_draft import Draft, Level, Reason, Rejected
from envs.dbbench.generator_material import Offer, a_row, parents
from envs.dbbench.generator_query import Condition, Query, Ref
from envs.dbbench.generator_updates import chain, delete_key, update_arithmetic, update_filtered, update_key
from envs.dbbench.generator_words import Speech, join_words

__all__ = ["INSERTS"]

_THEN = ("Then do a second thing", "After that", "When that is done", "As the next step")
_EASY, _MEDIUM, _HARD = Level.EASY, Level.MEDIUM, Level.HARD


def _new_row(speech: Speech, place: int) -> list[str | None]:
    """A row that is not there: each column as some other row has it, with a name and a key of its own."""
    table = speech.scene.tables[speech.scene.main]
    rows = table.table.rows
    row: list[str | None] = []
    for column, field in enumerate(table.fields):
        if field.kind == "name":
            if place >= len(speech.scene.spare):
                raise Rejected(Reason.NO_MATERIAL)
            row.append(speech.scene.spare[place])
        elif field.kind == "id":
            row.append(str(max(int(cells[column] or 0) for cells in rows) + 1 + place))
        else:
            row.append(speech.draw.choice([cells[column] for cells in rows if cells[column]] or [None]))
    return row


def _pairs(speech: Speech, columns: list[int], row: list[str | None]) -> str:
    """The values, each with its column, in one of several ways."""
    base = speech.scene.main
    fields = speech.main.fields
    shown = [speech.value(Ref(base, c), row[c] or "") for c in columns]
    form = speech.draw.below(5)
    plain = [(fields[c].name, value, speech.quoted(row[c] or "")) for c, value in zip(columns, shown, strict=True)]
    if form == 0:
        return ", ".join(f"{name} {quoted}" for name, _, quoted in plain)
    if form == 1:
        return ", ".join(f"{name} = {quoted}" for name, _, quoted in plain)
    if form == 2:
        return join_words([f"{quoted} for {name}" for name, _, quoted in plain])
    if form == 3:
        return ", ".join(f"{name}: {quoted}" for name, _, quoted in plain)
    listed = join_words([f"'{name}'" for name, _, _ in plain])
    values = join_words([quoted for _, _, quoted in plain])
    return f"the columns {listed} being {values} respectively" if len(plain) > 1 else f"{listed} being {values}"


def _insert_change(speech: Speech, rows: list[list[str | None]], columns: list[int]) -> Insert:
    return Insert(speech.scene.main, tuple(columns), tuple(tuple(row[c] for c in columns) for row in rows))


def _insert(speech: Speech) -> Draft:
    row, columns = _new_row(speech, 0), list(range(len(speech.main.fields)))
    left_out: list[int] = []
    if speech.level is not _EASY and speech.draw.chance(0.4):
        able = [i for i, field in enumerate(speech.main.fields) if speech.scene.flat or field.nullable]
        left_out = speech.draw.sample(
            [i for i in able if speech.main.fields[i].kind != "name"], speech.draw.between(1, 2)
        )
        columns = [i for i in columns if i not in left_out]
    given = [i for i in columns if row[i] is not None]
    pairs, kind, title = _pairs(speech, given, row), speech.main.row, speech.title
    text = speech.pick(
        f"Insert a new row into {title} with {pairs}.",
        f"Insert into {title} a {kind} with {pairs}.",
        f"Please record another {kind} in {title}, with {pairs}.",
        f"Add a {kind} to {title}: {pairs}.",
        f"A new {kind} has to go into {title}. Its values: {pairs}.",
        f"A record was added to {title} with {pairs}. Insert it.",
    )
    if left_out:
        missing = join_words([speech.main.fields[i].name for i in left_out])
        text += speech.pick(f" Leave {missing} NULL.", f" Nothing is known of {missing} yet: NULL.")
    draft = Draft("insert", speech.order(text), changes=(_insert_change(speech, [row], given),))
    return Draft(draft.intent, draft.question, changes=draft.changes, extra=int(bool(left_out)))


def _insert_story(speech: Speech) -> Draft:
    """In a sentence, as many of AgentBench's are."""
    row, columns = _new_row(speech, 0), list(range(len(speech.main.fields)))
    name = speech.main.key
    if any(row[c] is None for c in columns):
        raise Rejected(Reason.NO_MATERIAL)
    others = [c for c in columns if c != name]
    facts = join_words([f"{speech.main.fields[c].name} {speech.quoted(row[c] or '')}" for c in others])
    called, said = speech.quoted(row[name] or ""), speech.main.fields[name].name
    title, kind = speech.title, speech.main.row
    text = speech.pick(
        f"The {kind} with the {said} {called} has {facts}; this information was inserted into {title}.",
        f"{title} is to be extended by a {kind}: {said} {called}, with {facts}.",
        f"There is a new {kind}, {said} {called}, with {facts}. Insert the record into {title}.",
        f"Record in {title} that the {kind} {called} ({said}) has {facts}.",
    )
    return Draft("insert story", speech.order(text), changes=(_insert_change(speech, [row], columns),))


def _insert_several(speech: Speech) -> Draft:
    count = speech.draw.between(2, 3)
    rows, columns = [_new_row(speech, i) for i in range(count)], list(range(len(speech.main.fields)))
    columns = [c for c in columns if all(row[c] is not None for row in rows)]
    listed = ", ".join(speech.main.fields[c].name for c in columns)
    values = "; ".join(f"({', '.join(speech.quoted(row[c] or '') for c in columns)})" for row in rows)
    title, kinds = speech.title, speech.main.rows
    number = ("", "", "two", "three")[count]
    text = speech.pick(
        f"Insert {number} rows into {title}, with the columns {listed}: {values}.",
        f"Add these {number} {kinds} to {title} ({listed}): {values}.",
        f"{number} {kinds} are missing in {title}. For {listed} their values are: {values}. Please add them.",
        f"Record {number} new {kinds} in {title}. Order of values: {listed}. Rows: {values}.",
    )
    return Draft("insert several", speech.order(text), changes=(_insert_change(speech, rows, columns),))


def _insert_by_name(speech: Speech) -> Draft:
    """The row it belongs to is told by name: its id has to be found."""
    links = parents(speech)
    if not links:
        raise Rejected(Reason.NO_MATERIAL)
    join = speech.draw.choice(links)
    parent = speech.scene.tables[join.parent]
    row = _new_row(speech, 0)
    name, text = a_row(speech, join.parent)
    where = (Condition(name, "=", text),)
    columns = [c for c in range(len(speech.main.fields)) if row[c] is not None]
    plain = [c for c in columns if c != join.column]
    wanted = Query(join.parent, (Ref(join.parent, 0),), where=where)
    values = tuple(wanted if c == join.column else row[c] for c in columns)
    pairs, kind, title = _pairs(speech, plain, row), speech.main.row, speech.title
    said = f"{join.said} is {speech.quoted(text)}"
    order = speech.pick(
        f"Add a {kind} whose {said} to {title}, with {pairs}.",
        f"Insert into {title} a new {kind}: {pairs}. Its {said}.",
        f"Record a {kind} in {title} with {pairs}; the {said} (see {parent.table.name}).",
        f"A {kind} whose {said} is new. Put it into {title} with {pairs}.",
    )
    change = Insert(speech.scene.main, tuple(columns), (values,))
    return Draft("insert by name", speech.order(order), changes=(change,), said=frozenset({"role"}))


def _insert_then_update(speech: Speech) -> Draft:
    first = _insert(speech)
    speech.plain = True
    second = speech.draw.choice((update_filtered, update_key, update_arithmetic))(speech)
    question = f"{first.question} {speech.pick(*_THEN)}: {second.question[0].lower()}{second.question[1:]}"
    return chain("insert and update", question, first, second)


def _insert_then_delete(speech: Speech) -> Draft:
    first = _insert(speech)
    speech.plain = True
    second = delete_key(speech)
    question = f"{first.question} {speech.pick(*_THEN)}: {second.question[0].lower()}{second.question[1:]}"
    return chain("insert and delete", question, first, second)


INSERTS: tuple[Offer, ...] = (
    Offer(_insert, (_EASY, _MEDIUM)),
    Offer(_insert_story, (_EASY,)),
    Offer(_insert_story, (_MEDIUM,), "typed"),
    Offer(_insert_several, (_MEDIUM,)),
    Offer(_insert_several, (_HARD,), "typed"),
    Offer(_insert_by_name, (_MEDIUM, _HARD), "parent"),
    Offer(_insert_then_update, (_HARD,)),
    Offer(_insert_then_delete, (_HARD,), "leaf"),
)
