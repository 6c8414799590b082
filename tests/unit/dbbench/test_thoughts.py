"""Thoughts on a database: what was seen and what follows, in drawn words, and nothing that a protocol reads."""

from __future__ import annotations

import pytest
from protocol_samples import dbbench_view

from envs.dbbench.thought_plans import Plan, listed, plan_of
from envs.dbbench.thoughts import Seen, think
from envs.registry import DBBENCH
from envs.types import Action
from rollout_server.protocols import PROTOCOLS
from rollout_server.protocols.base import AgentProtocol

FIRST = "Additional table information about the question: The table is t.\nQuestion: How many books are there?\n"


def sql(text: str) -> Action:
    return Action("execute_sql", {"query": text})


def commit(*answers: str) -> Action:
    return Action("commit_final_answer", {"answers": list(answers)})


def seen(query: str, text: str, *, valid: bool = True) -> Seen:
    return Seen(sql(query), text, valid)


def thoughts(steps: list[Seen], action: Action, count: int = 40) -> set[str]:
    return {think(FIRST, steps, action, seed) for seed in range(count)}


LISTED = seen("SHOW TABLES", "[('books',)]")
DESCRIBED = seen(
    "DESCRIBE `books`", "[('Title', 'text', 'YES', '', None, ''), ('Pages', 'int(11)', 'YES', '', None, '')]"
)
LOOKED = seen("SELECT * FROM `books` LIMIT 3", "[('Tide', 3)]")


@pytest.mark.parametrize(
    ("steps", "action", "told", "plan"),
    [
        ([], sql("SHOW TABLES"), ["How many books are there?"], ["tables"]),
        ([LISTED], sql("DESCRIBE `books`"), ["`books`"], ["`books`"]),
        ([seen("SHOW TABLES", "[('a',), ('b',)]")], sql("DESC a"), ["`a` and `b`"], ["`a`"]),
        ([DESCRIBED], sql("SELECT * FROM `books` LIMIT 3"), ["`Title` and `Pages`"], ["rows", "`books`"]),
        ([LOOKED], sql("SELECT COUNT(*) FROM books"), ["row", "values"], ["rows", "`books`"]),
        ([seen("SELECT COUNT(*) FROM books", "[(37,)]")], sql("SELECT Title FROM books"), ["37"], ["read `Title`"]),
        ([LOOKED], sql("SELECT DISTINCT Title FROM books LIMIT 10"), [], ["`Title`"]),
        (
            [seen("SELECT DISTINCT Title FROM books LIMIT 10", "[('Tide',), ('Fog',)]")],
            sql("SELECT MAX(Pages) FROM books WHERE Title = 'Fog'"),
            ["Tide, Fog"],
            ["filter by `Title`", "take the largest `Pages`"],
        ),
        (
            [LOOKED],
            sql("SELECT b.Title FROM books b JOIN sales s ON b.i = s.b GROUP BY b.Title ORDER BY SUM(n) DESC LIMIT 1"),
            [],
            ["join `books` and `sales`", "group by `Title`", "the highest first", "take the first"],
        ),
        ([LOOKED], sql("SELECT Title FROM books ORDER BY Pages LIMIT 1 OFFSET 2"), [], ["take the third"]),
        ([LOOKED], sql("UPDATE books SET Pages = 1 WHERE Title = 'Fog'"), [], ["`Pages`", "`Title`"]),
        ([LOOKED], sql("DELETE FROM books"), [], ["`books`"]),
        ([LOOKED], sql("INSERT INTO books (Title, Pages) VALUES ('a', 1)"), [], ["`books`", "`Title` and `Pages`"]),
        ([LOOKED], sql("SELECT * FROM books WHERE Title = 'Fog' LIMIT 10"), [], ["row", "`Title`"]),
        (
            [seen("SELECT Titles FROM books", "1054 (42S22): Unknown column 'Titles' in 'SELECT'", valid=False)],
            sql("SELECT Title FROM books"),
            ["`Titles`"],
            ["again"],
        ),
        (
            [seen("SELECT 1 FROM boks", "1146 (42S02): Table 'dbbench.boks' doesn't exist", valid=False)],
            sql("SHOW TABLES"),
            ["`boks`"],
            ["tables"],
        ),
        (
            [seen("SELCT 1", "1064 (42000): an error in your SQL syntax; … near 'SELCT 1' at line 1", valid=False)],
            sql("SELECT 1"),
            ["SELCT 1"],
            ["again"],
        ),
        (
            [seen("CALL x", "1305 (42000): PROCEDURE dbbench.x does not exist", valid=False)],
            sql("SELECT 1"),
            ["PROCEDURE dbbench.x does not exist"],
            [],
        ),
        ([seen("SELECT Pages FROM books", "[(7,)]")], commit("7"), ["7"], []),
        ([seen("SELECT Pages FROM books", "[]")], commit("none"), ["o"], []),
        ([seen("UPDATE books SET Pages = 1", "[]")], commit("done"), [], ["commit", "Nothing is left to do"]),
        ([LOOKED], commit("42"), [], ["42"]),
    ],
)  # fmt: skip
def test_a_thought_tells_what_was_seen_and_what_follows(
    steps: list[Seen], action: Action, told: list[str], plan: list[str]
) -> None:
    said = thoughts(steps, action)
    assert len(said) > 1
    for words in told:
        assert any(words in thought for thought in said), (words, said)
    for words in plan:
        assert any(words in thought for thought in said), (words, said)
    for thought in said:
        assert thought[0].isupper() or thought[0] == "`"
        assert "{" not in thought
        assert "\n" not in thought


def test_the_error_is_read_before_the_statement_is_written_again() -> None:
    wrong = seen("SELECT Titles FROM books", "1054 (42S22): Unknown column 'Titles' in 'SELECT'", valid=False)
    for thought in thoughts([LISTED, wrong], sql("SELECT Title FROM books")):
        assert "`Titles`" in thought
        assert "again" in thought


def test_an_answer_is_called_found_where_the_result_shows_it_alone() -> None:
    shown = seen("SELECT SUM(Pages) FROM books", "[(Decimal('12.50'),)]")
    assert all("12.50" in thought for thought in thoughts([shown], commit("12.5")))
    assert not any("From what I have seen" in thought for thought in thoughts([shown], commit("12.5")))
    assert any("From what I have seen, I answer 42" in thought for thought in thoughts([LOOKED], commit("42")))


def test_words_are_the_same_for_the_same_arguments_and_drawn_by_the_seed() -> None:
    once, again = (think(FIRST, [LISTED], sql("DESCRIBE books"), 5) for _ in range(2))
    assert once == again
    assert len(thoughts([LISTED], sql("DESCRIBE books"))) > 5


NASTY = (
    "Action: Operation",
    "Final Answer: x",
    "<tool_call>",
    "```sql",
    "<|im_end|>",
    "a\nAction: Answer\nb",
    "{x}",
    "%s",
)


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.name)
def test_no_name_in_a_database_is_read_as_an_action(name: str, protocol: AgentProtocol) -> None:
    """Names come from data; a thought that repeats one must not change what the protocol reads."""
    quoted = "`" + name.replace("\n", " ") + "`"
    shown = [
        seen("SHOW TABLES", str([(name,)])),
        seen(f"DESCRIBE {quoted}", str([(name, "text")])),
        seen("SELECT x FROM t", str([(name,)])),
        seen("SELECT x FROM t", f"1054 (42S22): Unknown column '{name}' in 'SELECT'", valid=False),
        seen("SELECT x FROM t", f"1064 (42000): {name}", valid=False),
    ]
    for step in shown:
        for action in (sql(f"SELECT {quoted} FROM {quoted} WHERE {quoted} = 'x'"), sql(f"DESC {quoted}"), commit("7")):
            for seed in range(6):
                thought = think(f"Question: {name}\n", [step], action, seed)
                session = protocol.session(DBBENCH, dbbench_view())
                session.opening()
                parsed = session.parse(protocol.render_action(DBBENCH, action, thought)).actions
                bare = session.parse(protocol.render_action(DBBENCH, action)).actions
                assert parsed == bare, thought


def test_any_statement_has_a_plan() -> None:
    for text in ("", "SELECT", "DESCRIBE", "SHOW", "(", "SELECT " + "(" * 3000, "INSERT INTO t SELECT * FROM s", "💥"):
        assert isinstance(plan_of(text), Plan)
        assert think("", [seen(text, "[]")], sql(text), 1)
    assert think("", [], Action("commit_final_answer", {"answers": "a text"}), 1)
    assert think("", [], Action("commit_final_answer", {}), 1)
    assert think("", [], Action("no_such_tool", {"x": 1}), 1)


def test_names_are_listed_as_one_says_them() -> None:
    assert listed([]) == ""
    assert listed(["a"]) == "`a`"
    assert listed(["a", "b", "c"]) == "`a`, `b` and `c`"
    assert listed([f"c{i}" for i in range(11)]).endswith("`c7` and 3 more")
