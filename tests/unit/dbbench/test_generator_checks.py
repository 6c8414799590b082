"""Why a draw is not taken: for each reason a case that has it, beside one that has not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envs.dbbench import generator
from envs.dbbench.generator_change import Arithmetic, Delete, Insert, Update
from envs.dbbench.generator_checks import check_change, check_question, trivial_guesses
from envs.dbbench.generator_draft import Draft, Level, Reason, Rejected, difficulty_points, level_of
from envs.dbbench.generator_query import Agg, Condition, Difference, Having, Query, Ref
from envs.dbbench.generator_words import Speech
from envs.dbbench.tables import Table
from tests.generator_scenes import FILMS, GENRE, NAME, SCORE, Field, flat, link, studios

TITLE, GENRES, SCORES = Ref(0, 0), Ref(0, 1), Ref(0, 2)
ROWS = [
    ("First", "War", "55"), ("Alpha", "Drama", "10"), ("Beta", "Drama", "20"), ("Gamma", "Crime", "30"),
    ("Delta", "Crime", "40"), ("Sigma", "Crime", "4"), ("Omega", "Love", "60"),
]  # fmt: skip


def question(query, **changes):
    return Draft("test", "?", query, **changes)


def equal(ref, text, **changes):
    return (Condition(ref, "=", text, **changes),)


def ask(scene, query, **changes):
    return check_question(scene, question(query, **changes))


def reason_of(scene, query, **changes):
    with pytest.raises(Rejected) as caught:
        ask(scene, query, **changes)
    return caught.value.reason


def genres(text):
    return Query(0, (TITLE,), where=equal(GENRES, text))


def test_a_plain_question_is_taken():
    assert ask(flat(ROWS), genres("Drama")) == ("Alpha", "Beta")


def test_a_question_without_an_answer():
    assert reason_of(flat(ROWS), genres("Opera")) is Reason.NO_ANSWER
    assert reason_of(studios(*FILMS), Query(1, (Ref(1, 3),), where=equal(Ref(1, 1), "Blue"))) is Reason.NO_ANSWER


def test_more_answers_than_anyone_writes_down():
    rows = [("First", "War", "1"), *((f"T{i:02d}", "Drama", str(i)) for i in range(11))]
    assert reason_of(flat(rows), genres("Drama")) is Reason.TOO_MANY
    assert len(ask(flat(rows[:11]), genres("Drama"))) == 10


def test_a_value_found_twice():
    scene = flat([*ROWS, ("Kappa", "Love", "60")])
    query = Query(0, (SCORES,), where=equal(GENRES, "Love"))
    assert reason_of(scene, query) is Reason.DUPLICATES
    assert ask(scene, replace(query, distinct=True)) == ("60",)


@pytest.mark.parametrize(
    "text",
    ["12,345", "O'Hara", 'the "best"', "[a]", "50%", " x", "x ", "none", "NaN", "inf", "1e5", "a\nb", "+5", "(x)"],
)
def test_a_value_that_the_rules_would_change(text):
    scene = flat([*ROWS, ("Kappa", text, "7")])
    assert reason_of(scene, Query(0, (GENRES,), where=equal(TITLE, "Kappa"))) is Reason.GARBLED


def test_a_decimal_beside_text_would_be_compared_as_text():
    score = Field("Score", "score", "number", places=2)
    rows = [(name, genre, f"{number}.50") for name, genre, number in ROWS]
    where = equal(TITLE, "Alpha")
    assert reason_of(flat(rows, (NAME, GENRE, score)), Query(0, (GENRES, SCORES), where=where)) is Reason.GARBLED
    assert ask(flat(ROWS), Query(0, (GENRES, SCORES), where=where)) == ("Drama", "10")


@pytest.mark.parametrize(
    "query",
    [
        Query(0, (GENRES,), where=equal(TITLE, "First")),  # the first row's
        Query(0, (Agg("COUNT"),)),  # the number of rows
        Query(0, (Agg("COUNT"),), where=equal(GENRES, "Love")),  # 1
        Query(0, (Agg("COUNT"),), where=equal(GENRES, "Opera")),  # 0
        Query(0, (TITLE,), where=(Condition(SCORES, ">", "1"),)),  # all of a column
    ],
)
def test_answers_that_a_guess_hits(query):
    assert reason_of(flat(ROWS), query) is Reason.TRIVIAL


def test_the_guesses():
    guesses = trivial_guesses([Table("t", ("a", "b"), (("x", None), ("y", "2")))])
    assert {(), ("",), ("0",), ("1",), ("none",), ("2",), ("x",), ("x", "y"), ("", "2")} == set(guesses)


def test_a_tie_at_the_top_or_where_a_ranking_is_cut():
    tied = flat([*ROWS, ("Kappa", "Love", "60"), ("Theta", "Love", "5")])
    top = Query(0, (TITLE,), order=SCORES, descending=True, limit=1)
    assert reason_of(tied, top) is Reason.TIE
    assert ask(flat(ROWS), top) == ("Omega",)
    assert reason_of(tied, replace(top, limit=1, offset=1)) is Reason.TIE
    assert ask(tied, replace(top, limit=2)) == ("Omega", "Kappa")  # a tie within is none
    within = Query(0, (TITLE,), where=(Condition(SCORES, "=", replace(top, select=(SCORES,))),))
    assert reason_of(tied, within) is Reason.TIE


def test_groups_that_are_equally_frequent():
    query = Query(0, (GENRES,), group=GENRES, order=Agg("COUNT"), descending=True, limit=1)
    assert ask(flat(ROWS), query) == ("Crime",)
    assert reason_of(flat([*ROWS, ("Kappa", "Drama", "9")]), query) is Reason.TIE


def test_the_fewest_where_a_group_has_none_left():
    query = Query(0, (GENRES,), where=(Condition(SCORES, "<", "50"),), group=GENRES, order=Agg("COUNT"), limit=1)
    assert reason_of(flat(ROWS), query) is Reason.EMPTY_GROUP
    assert ask(flat([*ROWS, ("Kappa", "War", "9"), ("Zeta", "War", "8"), ("Theta", "Love", "7")]), query) == ("Love",)


@pytest.mark.parametrize(("op", "on", "beside"), [(">", "30", "35"), (">=", "30", "25"), ("<", "20", "15")])
def test_a_bound_that_is_itself_a_value(op, on, beside):
    def query(bound):
        return Query(0, (TITLE,), where=(*equal(GENRES, "Crime"), Condition(SCORES, op, bound)))

    rows = [*ROWS, ("Kappa", "Crime", "20")]
    assert reason_of(flat(rows), query(on)) is Reason.INCLUSIVE
    assert ask(flat(rows), query(beside))


def test_ends_of_a_range_and_having_are_bounds_too():
    between = Query(0, (TITLE,), where=(Condition(SCORES, "between", ("20", "45")),))
    assert reason_of(flat(ROWS), between) is Reason.INCLUSIVE
    assert ask(flat(ROWS), replace(between, where=(Condition(SCORES, "between", ("19", "45")),)))
    having = Query(0, (GENRES,), group=GENRES, having=Having(Agg("COUNT"), ">", "2"))
    assert reason_of(flat(ROWS), having) is Reason.INCLUSIVE  # at least 2: Drama as well
    assert ask(flat([*ROWS, ("Kappa", "Crime", "9")]), replace(having, having=Having(Agg("COUNT"), ">", "3"))) == (
        "Crime",
    )


def test_beyond_a_row_leaves_the_row_itself_out():
    inner = Query(0, (SCORES,), where=equal(TITLE, "Gamma"))
    query = Query(0, (TITLE,), where=(Condition(SCORES, ">", inner, strict=True),))
    assert ask(flat(ROWS), query) == ("First", "Delta", "Omega")
    assert reason_of(flat(ROWS), replace(query, where=(Condition(SCORES, ">", inner),))) is Reason.INCLUSIVE


@pytest.mark.parametrize("other", ["drama", "Dráma", "DRAMA", "Drama "])
def test_values_that_a_server_takes_for_the_same(other):
    assert reason_of(flat([*ROWS, ("Kappa", other, "9")]), genres("Drama")) is Reason.FOLDING
    both = Query(0, (TITLE,), where=(Condition(GENRES, "in", ("Drama", "Love")),))
    assert reason_of(flat([*ROWS, ("Kappa", other, "9")]), both) is Reason.FOLDING


def test_a_text_that_is_found_in_another_case():
    query = Query(0, (TITLE,), where=(Condition(TITLE, "contains", "eta"),))
    assert ask(flat(ROWS), query) == ("Beta",)
    assert reason_of(flat([*ROWS, ("Etage", "War", "9")]), query) is Reason.FOLDING


def test_a_value_that_is_part_of_another():
    rows = [*ROWS, ("Kappa", "Melodrama of Drama", "9")]
    assert reason_of(flat(rows), genres("Drama")) is Reason.SUBSTRING
    both = Query(0, (TITLE,), where=(Condition(GENRES, "in", ("Drama", "Love")),))
    assert reason_of(flat(rows), both) is Reason.SUBSTRING
    assert ask(flat(ROWS), both) == ("Alpha", "Beta", "Omega")


def test_numbers_of_things_that_someone_might_order_as_text():
    code = Field("No", "no", "number", code=True)
    rows = [("First", "War", "55"), ("Alpha", "War", "9"), ("Beta", "Drama", "100"), ("Gamma", "Love", "70")]
    scene, plain = flat(rows, (NAME, GENRE, code)), flat(rows)
    top = Query(0, (TITLE,), order=SCORES, descending=True, limit=1)
    assert reason_of(scene, top) is Reason.TEXT_ORDER
    assert reason_of(scene, Query(0, (Agg("MAX", SCORES),))) is Reason.TEXT_ORDER
    assert ask(plain, top) == ("Beta",)
    assert ask(plain, Query(0, (Agg("MAX", SCORES),))) == ("100",)


def test_a_value_of_two_columns_whose_column_goes_unnamed():
    rows = [*ROWS, ("Kappa", "Alpha", "9")]
    query = Query(0, (SCORES,), where=equal(TITLE, "Alpha", named=False))
    assert reason_of(flat(rows), query) is Reason.TWO_COLUMNS
    assert ask(flat(rows), replace(query, where=equal(TITLE, "Alpha"))) == ("10",)
    assert ask(flat(ROWS), query) == ("10",)
    difference = Difference(query, Query(0, (SCORES,), where=equal(TITLE, "Beta", named=False)))
    assert reason_of(flat([*ROWS, ("Kappa", "Beta", "9")]), difference) is Reason.TWO_COLUMNS


def test_rows_or_different_values():
    query = Query(0, (Agg("COUNT", GENRES, distinct=True),), where=(Condition(SCORES, "<", "50"),))
    assert reason_of(flat(ROWS), query) is Reason.DISTINCT
    assert ask(flat(ROWS), query, said=frozenset({"different"})) == ("2",)


def test_whether_null_counts():
    price, title = Ref(1, 2), Ref(1, 1)
    scene = studios(*FILMS)
    average = Query(1, (Agg("AVG", price),))
    assert reason_of(scene, average) is Reason.NULLS
    assert ask(scene, average, said=frozenset({"null"})) == ("8.2125",)
    assert ask(scene, Query(1, (Agg("AVG", price),), where=(Condition(title, "contains", "B"),))) == ("9.6250",)
    assert reason_of(scene, Query(1, (Agg("COUNT", price),))) is Reason.NULLS
    other = Query(1, (title,), where=(Condition(Ref(1, 5), "<>", "Red"),))
    colour = Field("colour", "colour", "category", "VARCHAR(9)", nullable=True)
    films = [(*film, colour) for film, colour in zip(FILMS, ("Red", None, "Blue", "Red", "Red"), strict=True)]
    assert reason_of(studios(*films, more=(colour,)), other) is Reason.NULLS


def test_whether_an_empty_cell_is_a_value():
    genre = Field("Genre", "genre", "category", blank=True)
    scene = flat([*ROWS, ("Kappa", "", "5"), ("Theta", "War", "3")], (NAME, genre, SCORE))
    count = Query(0, (Agg("COUNT", GENRES, distinct=True),), where=(Condition(SCORES, "<", "50"),))
    assert reason_of(scene, count, said=frozenset({"different"})) is Reason.NULLS
    lowest = Query(0, (GENRES,), group=GENRES, order=Agg("SUM", SCORES), limit=1, offset=1)
    assert reason_of(scene, lowest) is Reason.NULLS
    assert ask(flat([*ROWS, ("Theta", "War", "6")]), lowest) == ("Love",)  # 30, 60, 61, 74
    other = Query(0, (TITLE,), where=(Condition(GENRES, "<>", "Crime"),))
    assert reason_of(scene, other) is Reason.NULLS
    assert ask(flat(ROWS), other) == ("First", "Alpha", "Beta", "Omega")


def test_a_join_that_may_go_two_ways():
    films = [(*film, other) for film, other in zip(FILMS, ("2", "1", "1", "2", "1"), strict=True)]
    joins = ((1, 4, 0, "studio"), (1, 5, 0, "partner"))
    scene = studios(*films, joins=joins, more=(link("partner_id", "partner"),))
    query = Query(1, (Ref(1, 1),), (scene.joins[0],), equal(Ref(0, 1), "Beta"))
    assert reason_of(scene, query) is Reason.JOIN_PATH
    assert ask(scene, query, said=frozenset({"role"})) == ("Blue", "Black")
    assert ask(studios(*FILMS), query) == ("Blue", "Black")


# Changes.


def change(scene, *changes, **more):
    return check_change(scene, Draft("test", "!", changes=changes, **more))


def refusal(scene, *changes, **more):
    with pytest.raises(Rejected) as caught:
        change(scene, *changes, **more)
    return caught.value.reason


def test_a_change_that_changes_nothing():
    scene = flat(ROWS)
    love = equal(GENRES, "Love")
    assert change(scene, Update(0, ((2, "61"),), love)).tables[0].table.rows[-1] == ("Omega", "Love", "61")
    assert refusal(scene, Update(0, ((2, "60"),), love)) is Reason.NO_CHANGE
    assert refusal(scene, Update(0, ((2, "60"),), equal(GENRES, "Opera"))) is Reason.NO_CHANGE
    assert refusal(scene, Delete(0, equal(GENRES, "Opera"))) is Reason.NO_CHANGE
    up, down = (Update(0, ((2, Arithmetic(op, "5")),), love) for op in "+-")
    assert refusal(scene, up, down) is Reason.NO_CHANGE


def test_a_step_that_a_later_one_undoes():
    scene = flat(ROWS)
    first, second = (Update(0, ((2, text),), equal(TITLE, "Alpha")) for text in ("11", "12"))
    assert refusal(scene, first, second) is Reason.NO_CHANGE
    assert change(scene, first, Update(0, ((2, "12"),), equal(TITLE, "Beta")))


def test_a_change_that_the_hash_does_not_show():
    """The hash covers the first 170 rows or so, by their own hashes."""
    rows = [(f"T{i}", "War", str(i)) for i in range(400)]
    shown = {reason for i in range(40) for reason in [_reason(rows, i)]}
    assert shown == {None, Reason.NO_CHANGE}


def _reason(rows, i):
    try:
        change(flat(rows), Insert(0, (0, 1, 2), ((f"New {i}", "War", "1"),)))
    except Rejected as refused:
        return refused.reason
    return None


def test_a_filter_that_takes_every_row():
    assert refusal(flat(ROWS), Delete(0, (Condition(SCORES, ">", "1"),))) is Reason.TRIVIAL


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ((Condition(SCORES, ">", "30"),), Reason.INCLUSIVE),
        (equal(GENRES, "Drama"), Reason.SUBSTRING),
        (equal(GENRES, "Love"), Reason.FOLDING),
        (equal(TITLE, "War", named=False), Reason.TWO_COLUMNS),
    ],
)
def test_rows_to_change_may_be_read_in_two_ways(where, reason):
    rows = [*ROWS, ("Kappa", "Melodrama", "9"), ("Theta", "LOVE", "8"), ("War", "Crime", "3")]
    assert refusal(flat(rows), Update(0, ((2, "77"),), where)) is reason


# The second reading, and difficulty.


def test_a_statement_that_finds_something_else_than_python(monkeypatch):
    scene = flat(ROWS)
    draft = question(genres("Drama"))
    assert generator._ask(scene, draft, ("Alpha", "Beta"))
    with pytest.raises(Rejected, match="second reading"):
        generator._ask(scene, draft, ("Alpha",))
    insert = Draft("test", "!", changes=(Insert(0, (0,), (("New",),)),))
    after = check_change(scene, insert)
    assert generator._carry_out(scene, insert, after)
    with pytest.raises(Rejected, match="second reading"):
        generator._carry_out(scene, insert, scene)
    forbidden = Draft("test", "!", changes=(Delete(0, equal(Ref(0, 1), "Alpha")),))
    with pytest.raises(Rejected, match="second reading"):  # SQLite keeps the keys
        generator._carry_out(studios(*FILMS), forbidden, check_change(studios(*FILMS), forbidden))


def test_an_intent_without_what_it_needs():
    speech = Speech(flat([("A",)], (NAME,)), Level.EASY)
    with pytest.raises(Rejected, match="no material"):
        speech.filters(0, 1, 1)


def test_a_draft_of_another_level_is_not_taken():
    from envs.dbbench.generator_material import Offer

    offer = Offer(lambda _: question(genres("Drama")), (Level.HARD,))
    assert generator._drafted(flat(ROWS), offer, Level.EASY)
    with pytest.raises(Rejected, match="other difficulty"):
        generator._drafted(flat(ROWS), offer, Level.HARD)


def test_difficulty_grows_with_what_a_question_needs():
    easy, typed = flat(ROWS), studios(*FILMS)
    one = question(genres("Drama"))
    two = question(Query(0, (TITLE,), where=(*equal(GENRES, "Drama"), Condition(SCORES, ">", "15"))))
    nested = question(Query(0, (TITLE,), where=(Condition(SCORES, ">", Query(0, (Agg("AVG", SCORES),))),)))
    grouped = question(Query(0, (GENRES,), group=GENRES, having=Having(Agg("COUNT"), ">", "1")))
    joined = question(Query(1, (Ref(1, 1),), (typed.joins[0],), equal(Ref(0, 1), "Beta")))
    assert [difficulty_points(easy, draft) for draft in (one, two, nested, grouped)] == [0, 1, 2, 3]
    assert difficulty_points(typed, joined) == 2
    assert level_of(easy, one) is Level.EASY
    assert level_of(easy, nested) is Level.MEDIUM
    assert level_of(typed, question(Query(1, (Ref(1, 1),)))) is Level.MEDIUM
    several = Draft("test", "!", changes=(Insert(0, (0,), (("X",), ("Y",))),) * 2)
    assert difficulty_points(easy, several) == 4
    assert level_of(easy, several) is Level.HARD
