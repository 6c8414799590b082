"""Intents of updates and deletions, and several of them in turn."""

from __future__ import annotations

from decimal import Decimal

from envs.dbbench.generator_change import Arithmetic, Change, Delete, Update
from envs.dbbench.generator_draft import Draft, Level, Reason, Rejected
from envs.dbbench.generator_material import Offer, a_number, a_row, children, parents, row_filters
from envs.dbbench.generator_query import Agg, Condition, Query, Ref
from envs.dbbench.generator_scene import Field
from envs.dbbench.generator_words import Speech, join_words

__all__ = ["DELETES", "UPDATES", "chain", "delete_key", "update_arithmetic", "update_filtered", "update_key"]

_EASY, _MEDIUM, _HARD = Level.EASY, Level.MEDIUM, Level.HARD


def chain(intent: str, question: str, *drafts: Draft) -> Draft:
    """Several changes in turn, in one text."""
    changes: tuple[Change, ...] = tuple(change for draft in drafts for change in draft.changes)
    said = frozenset[str]().union(*(draft.said for draft in drafts))
    return Draft(intent, question, changes=changes, said=said, extra=sum(draft.extra for draft in drafts))


def _settable(speech: Speech) -> list[int]:
    return speech.main.of_kind("category", "number", "date")


def _new_value(speech: Speech, column: int) -> str:
    """Another value of the column's kind."""
    base = speech.scene.main
    cells = [row[column] for row in speech.scene.tables[base].table.rows if row[column]]
    return speech.draw.choice(cells or [None]) or _nothing()


def _nothing() -> str:
    raise Rejected(Reason.NO_MATERIAL)


def _sets(speech: Speech, count: int, avoid: tuple[int, ...] = ()) -> tuple[tuple[tuple[int, str], ...], str, str]:
    """New values, as in ``set the genre to 'Drama'`` and as in ``it has genre = 'Drama'``."""
    able = [c for c in _settable(speech) if c not in avoid]
    if len(able) < count:
        raise Rejected(Reason.NO_MATERIAL)
    sets = tuple((column, _new_value(speech, column)) for column in speech.draw.sample(able, count))
    base = speech.scene.main
    names_of = {c: speech.draw.choice((speech.main.fields[c].name, speech.said(Ref(base, c)))) for c, _ in sets}
    to = join_words([f"the {names_of[c]} to {speech.quoted(value)}" for c, value in sets])
    return sets, to, join_words([f"{names_of[c]} = {speech.quoted(value)}" for c, value in sets])


def update_key(speech: Speech) -> Draft:
    """New values for the row of a name."""
    name, text = a_row(speech)
    count = 1 if speech.level is _EASY and speech.draw.chance(0.6) else speech.draw.between(1, 3)
    sets, to, equal = _sets(speech, count, avoid=(name.column,))
    key, row, title, said = speech.value(name, text), speech.main.row, speech.title, speech.said(name)
    named = speech.draw.chance(0.5)
    where = (Condition(name, "=", text, named=named),)
    text = (
        speech.pick(
            f"Update {title}: set {to} where the {said} is {key}.",  # noqa: S608 - words
            f"In {title}, change {to} for the entry whose {said} is {key}.",
            f"Set {to} in {title} for the {row} with the {said} {key}.",
            f"Where the {said} equals {key}, {title} has to say {equal}. Update it.",
        )
        if named
        else speech.pick(
            f"Set {to} for {key} in {title}.",
            f"Update {title} so that {key} has {equal}.",
            f"The {row} {key} in {title} has been updated with {equal}.",
            f"For the {row} {key}, change {to}.",
            f"{title} has wrong data for {key}: it should be {equal}. Update it.",
        )
    )
    return Draft("update", speech.order(text), changes=(Update(name.table, sets, where),))


def update_filtered(speech: Speech) -> Draft:
    """New values for rows by conditions."""
    base = speech.scene.main
    sets, to, _ = _sets(speech, 1 if speech.level is not _HARD else speech.draw.between(1, 2))
    where = row_filters(speech, avoid=tuple(column for column, _ in sets))
    clause, rows, row = speech.clause(where, base), speech.main.rows, speech.main.row
    text = speech.pick(
        f"Set {to} for every {row} {clause}.",
        f"Update all {rows} {clause}: change {to}.",
        f"In {speech.title}, set {to} in the rows of {rows} {clause}.",
        f"All {rows} {clause} have a mistake. Set {to} for them.",
    )
    return Draft("update filtered", speech.order(text), changes=(Update(base, sets, where),))


def update_arithmetic(speech: Speech) -> Draft:
    """A number raised, lowered or multiplied."""
    base, number = speech.scene.main, a_number(speech, additive=True)
    field = speech.main.fields[number.column]
    # On TEXT, MySQL's own arithmetic would drop or add decimals; what the cell then reads would depend on the way.
    if field.text and (field.places or field.thousands):
        raise Rejected(Reason.NO_MATERIAL)
    present = [row[number.column] for row in speech.main.values]
    least = min((value for value in present if isinstance(value, Decimal)), default=Decimal())
    arithmetic, words = _arithmetic(speech, field, speech.said(number), least)
    if speech.level is _EASY or speech.draw.chance(0.4):
        name, text = a_row(speech)
        where: tuple[Condition, ...] = (Condition(name, "=", text),)
        whom = f"the {speech.main.row} whose {speech.said(name)} is {speech.value(name, text)}"
    else:
        where = row_filters(speech, avoid=(number.column,))
        whom = f"all {speech.main.rows} {speech.clause(where, base)}"
    text = speech.pick(
        f"{words} for {whom}.",
        f"In {speech.title}, {words[0].lower()}{words[1:]} for {whom}.",
        f"This concerns {whom}: {words[0].lower()}{words[1:]}.",
        f"Update {speech.title}: {words[0].lower()}{words[1:]} for {whom}.",
    )
    return Draft(
        "update arithmetic", speech.order(text), changes=(Update(base, ((number.column, arithmetic),), where),)
    )


def _arithmetic(speech: Speech, field: Field, said: str, least: Decimal) -> tuple[Arithmetic, str]:
    draw = speech.draw
    form = draw.below(4)
    if form == 0:
        return Arithmetic("*", "2"), speech.pick(f"Double the {said}", f"Multiply the {said} by 2")
    if form == 1 and not field.text and field.places:
        percent = draw.choice((5, 10, 20, 25, 50))
        amount = f"{100 + percent}"
        return Arithmetic("*", f"{amount[0]}.{amount[1:]}"), speech.pick(
            f"Raise the {said} by {percent} percent (rounded to {field.places} decimals)",
            f"Increase the {said} by {percent}%, rounded to {field.places} decimal places",
        )
    step = str(draw.choice((1, 2, 3, 5, 10, 25, 100)))
    if form == 2 and least >= int(step):
        return Arithmetic("-", step), speech.pick(f"Reduce the {said} by {step}", f"Lower the {said} by {step}")
    return Arithmetic("+", step), speech.pick(
        f"Raise the {said} by {step}", f"Increase the {said} by {step}", f"Add {step} to the {said}"
    )


def _update_null(speech: Speech) -> Draft:
    base = speech.scene.main
    able = [c for c in _settable(speech) if speech.scene.flat or speech.main.fields[c].nullable]
    if not able:
        raise Rejected(Reason.NO_MATERIAL)
    column = speech.draw.choice(able)
    where = row_filters(speech, avoid=(column,))
    said, clause, rows = speech.main.fields[column].name, speech.clause(where, base), speech.main.rows
    text = speech.pick(
        f"Set the {said} to NULL for all {rows} {clause}.",
        f"The {said} of the {rows} {clause} is not known after all: make it NULL.",
        f"Remove the {said} (set it to NULL) of every {speech.main.row} {clause}.",
        f"In {speech.title}, the {said} must become NULL for {rows} {clause}.",
    )
    return Draft("update null", speech.order(text), changes=(Update(base, ((column, None),), where),))


def _update_by_parent(speech: Speech) -> Draft:
    links = parents(speech)
    if not links:
        raise Rejected(Reason.NO_MATERIAL)
    join = speech.draw.choice(links)
    name, text = a_row(speech, join.parent)
    more_than_one = int(speech.level is _HARD)
    sets, to, _ = _sets(speech, speech.draw.between(1, 1 + more_than_one))
    own = speech.filters(speech.scene.main, 0, more_than_one, avoid=tuple(column for column, _ in sets))
    inner = Query(join.parent, (Ref(join.parent, 0),), where=(Condition(name, "=", text),))
    link = Condition(Ref(speech.scene.main, join.column), "=", inner)
    more = speech.clause(own, speech.scene.main, "whose")
    rows = speech.main.rows
    whom = f"{rows} whose {join.said} is {speech.value(name, text)}" + (f" and {more}" if more else "")
    order = speech.pick(
        f"Set {to} for all {whom}.",
        f"Update the {whom}: change {to}.",
        f"Find the {whom} and set {to} for them.",
        f"In {speech.title}, set {to} for the {whom}.",
    )
    change = Update(speech.scene.main, sets, (link, *own))
    return Draft("update joined", speech.order(order), changes=(change,), said=frozenset({"role"}))


def _update_nested(speech: Speech) -> Draft:
    base, number = speech.scene.main, a_number(speech)
    sets, to, equal = _sets(speech, speech.draw.between(1, 2), avoid=(number.column,))
    own = speech.filters(base, 0, 2, avoid=(number.column, *(column for column, _ in sets)))
    above = speech.draw.chance(0.5)
    word, what, rows = "above" if above else "below", speech.said(number), speech.main.rows
    more = speech.clause(own, base)
    whom = f"{rows}{' ' + more if more else ''}"
    beyond = f"{speech.one(number)} {word} the average {what} of all {rows}"
    order = speech.pick(
        f"Set {to} for the {whom} that have {beyond}.",
        f"For all {whom} with {beyond}, set {to}.",
        f"Update {speech.title}: the {whom} having {beyond} get {equal}.",
        f"Which {whom} have {beyond}? Set {to} for these.",
    )
    where = (*own, Condition(number, ">" if above else "<", Query(base, (Agg("AVG", number),))))
    return Draft("update nested", speech.order(order), changes=(Update(base, sets, where),))


def _update_twice(speech: Speech) -> Draft:
    speech.plain = True
    makers = (update_key, update_filtered, update_arithmetic)
    first, second = (speech.draw.choice(makers)(speech) for _ in range(2))
    one, two = first.question, second.question
    question = speech.pick(
        f"Two changes, in this order. First: {one} Second: {two}",
        f"{one} When that is done: {two}",
        f"First of all: {one} And then: {two}",
        f"Step 1: {one} Step 2: {two}",
    )
    return chain("update twice", question, first, second)


UPDATES: tuple[Offer, ...] = (
    Offer(update_key, (_EASY, _MEDIUM)),
    Offer(update_filtered, (_EASY, _MEDIUM, _HARD)),
    Offer(update_arithmetic, (_EASY, _MEDIUM)),
    Offer(_update_null, (_MEDIUM,)),
    Offer(_update_null, (_HARD,), "typed"),
    Offer(_update_by_parent, (_MEDIUM, _HARD), "parent"),
    Offer(_update_nested, (_MEDIUM, _HARD)),
    Offer(_update_twice, (_HARD,)),
)


# Delete.


def _deletable(speech: Speech) -> None:
    """Raises Rejected where other rows name those of the main table."""
    if children(speech):
        raise Rejected(Reason.NO_MATERIAL)


def delete_key(speech: Speech) -> Draft:
    """The row of a name goes."""
    _deletable(speech)
    name, text = a_row(speech)
    key, row, title = speech.value(name, text), speech.main.row, speech.title
    named = speech.draw.chance(0.5)
    lead = f"with the {speech.said(name)} {key}" if named else key
    order = speech.pick(
        f"Delete the {row} {lead} from {title}.",
        f"Remove the {row} {lead} from {title}.",
        f"The {row} {lead} no longer belongs into {title}: delete it.",
        f"Take the {row} {lead} out of {title}.",
    )
    return Draft(
        "delete", speech.order(order), changes=(Delete(name.table, (Condition(name, "=", text, named=named),)),)
    )


def _delete_filtered(speech: Speech) -> Draft:
    _deletable(speech)
    where = row_filters(speech)
    clause, rows, title = speech.clause(where, speech.scene.main), speech.main.rows, speech.title
    order = speech.pick(
        f"Delete all {rows} {clause} from {title}.",
        f"Remove every {speech.main.row} {clause}.",
        f"Clean up {title}: delete the {rows} {clause}.",
        f"The {rows} {clause} have to go. Delete them from {title}.",
    )
    return Draft("delete filtered", speech.order(order), changes=(Delete(speech.scene.main, where),))


def _delete_nested(speech: Speech) -> Draft:
    _deletable(speech)
    base, number = speech.scene.main, a_number(speech)
    own = speech.filters(base, 1, 2, avoid=(number.column,))
    above = speech.draw.chance(0.5)
    word, what, rows = "above" if above else "below", speech.said(number), speech.main.rows
    clause = speech.clause(own, base)
    beyond = f"{speech.one(number)} {word} the average {what} of all {rows}"
    order = speech.pick(
        f"Delete the {rows} {clause} that have {beyond}.",
        f"Remove all {rows} {clause} with {beyond} from {speech.title}.",
        f"Of the {rows} {clause}, delete those with {beyond}.",
        f"Clean up {speech.title}: the {rows} {clause} having {beyond} must go.",
    )
    where = (*own, Condition(number, ">" if above else "<", Query(base, (Agg("AVG", number),))))
    return Draft("delete nested", speech.order(order), changes=(Delete(base, where),))


def _delete_cascade(speech: Speech) -> Draft:
    """A row with all that names it: those first."""
    links = children(speech)
    if not links:
        raise Rejected(Reason.NO_MATERIAL)
    name, text = a_row(speech)
    where = (Condition(name, "=", text),)
    identity = Query(name.table, (Ref(name.table, 0),), where=where)
    steps: list[Change] = [
        Delete(join.child, (Condition(Ref(join.child, join.column), "=", identity),)) for join in links
    ]
    key, row = speech.value(name, text), speech.main.row
    others = join_words([speech.scene.tables[join.child].rows for join in links])
    order = speech.pick(
        f"Delete the {row} whose {speech.said(name)} is {key}, together with all its {others}.",
        f"Remove the {row} with the {speech.said(name)} {key} and every one of its {others}.",
        f"The {row} with the {speech.said(name)} {key} goes, and so do its {others}: delete them all.",
        f"First the {others} of the {row} whose {speech.said(name)} is {key}, then that {row}: delete all of it.",
    )
    return Draft("delete with children", speech.order(order), changes=(*steps, Delete(name.table, where)))


def _delete_then_update(speech: Speech) -> Draft:
    first = _delete_filtered(speech)
    speech.plain = True
    second = update_arithmetic(speech)
    after = speech.pick("Afterwards", "After that", "Then", "As the next step")
    question = f"{first.question} {after}, {second.question[0].lower()}{second.question[1:]}"
    return chain("delete and update", question, first, second)


DELETES: tuple[Offer, ...] = (
    Offer(delete_key, (_EASY,), "leaf"),
    Offer(delete_key, (_MEDIUM,), "typed leaf"),
    Offer(_delete_filtered, (_EASY, _MEDIUM), "leaf"),
    Offer(_delete_filtered, (_HARD,), "typed leaf"),
    Offer(_delete_nested, (_MEDIUM, _HARD), "leaf"),
    Offer(_delete_cascade, (_HARD,), "child"),
    Offer(_delete_then_update, (_HARD,), "leaf"),
)
