"""How answers compare, case by case, by AgentBench's two sets of rules.

FC normalises (nothing in its many spellings is 0, a trailing %, commas, blanks and quotes go), takes numbers as equal
within 0.01, lists of numbers as multisets, other lists as sets. Classic is exact: two numbers as floats, two texts as
they are, lists as sets. A text that spells a list is read as one by both.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from envs.dbbench.scoring import answer_matches


class Case(NamedTuple):
    """``fc`` and ``classic``: whether the answer is the gold one, by each."""

    name: str
    answer: object
    gold: list[str]
    fc: bool
    classic: bool


CASES = [
    # Numbers, one against one.
    Case("the same number", ["12"], ["12"], True, True),
    Case("within a hundredth", ["12.009"], ["12.0"], True, False),
    Case("just above a hundredth", ["12.011"], ["12.0"], False, False),
    Case("a hundredth below", ["11.991"], ["12"], True, False),
    Case("whole and decimal", ["12"], ["12.0"], True, True),
    Case("leading zeros", ["007"], ["7"], True, True),
    Case("a plus sign", ["+7"], ["7"], True, True),
    Case("negative zero", ["-0"], ["0"], True, True),
    Case("another sign", ["-7"], ["7"], False, False),
    Case("an exponent", ["1e2"], ["100"], True, True),
    Case("an exponent in the gold", ["100"], ["1E+2"], True, True),
    Case("a point first", [".5"], ["0.5"], True, True),
    Case("a point last", ["5."], ["5"], True, True),
    Case("a decimal comma", ["0,5"], ["0.5"], False, False),
    Case("thousands' commas", ["1,234"], ["1234.0"], True, False),
    Case("thousands' commas in the gold", ["1234"], ["1,234"], True, False),
    Case("commas where none belong", ["1,2,3,4"], ["1234"], True, False),
    Case("Python's underscores", ["1_000"], ["1000"], True, True),
    Case("blanks within a number", ["1 000"], ["1000"], False, False),
    Case("hexadecimal is text", ["0x10"], ["16"], False, False),
    Case("hexadecimal, the same", ["0x10"], ["0x10"], True, True),
    Case("a currency is text", ["$5"], ["5"], False, False),
    Case("a unit is text", ["5 km"], ["5"], False, False),
    Case("a fraction is text", ["1/2"], ["0.5"], False, False),
    Case("huge whole numbers meet as floats", ["9007199254740993"], ["9007199254740992"], True, True),
    Case("huge whole numbers apart", ["90071992547409930"], ["90071992547409900"], False, False),
    Case("too large for a float, both infinite", ["1e999"], ["1e999"], False, True),
    Case("tiny and nothing", ["0.001"], ["0"], True, False),
    Case("a number that is no text", [7], ["7"], True, True),
    Case("a float that is no text", [7.0], ["7"], True, True),
    Case("Arabic digits are digits", ["\u0663"], ["3"], True, True),
    Case("full-width digits are digits", ["\uff11\uff12"], ["12"], True, True),
    # Nothing in its spellings.
    Case("an empty text", [""], ["0"], True, False),
    Case("blanks alone", ["   "], ["0"], True, False),
    Case("quotes alone", ["''"], ["0"], True, False),
    Case("None", ["None"], ["0"], True, False),
    Case("null and none", ["NULL"], ["none"], True, False),
    Case("undefined", ["undefined"], ["0"], True, False),
    Case("nan", ["nan"], ["0"], True, False),
    Case("nan is not itself", ["nan"], ["nan"], True, False),
    Case("inf", ["inf"], ["0"], True, False),
    Case("-Infinity", ["-Infinity"], ["0"], True, False),
    Case("inf and inf", ["inf"], ["inf"], True, True),
    Case("a signed inf is no nothing", ["+inf"], ["0"], False, False),
    Case("no value at all", [None], ["none"], True, False),
    Case("N/A is text", ["N/A"], ["0"], False, False),
    Case("zero against none", ["0"], ["None"], True, False),
    Case("nil is text", ["nil"], ["0"], False, False),
    # Per cent.
    Case("a per cent sign", ["50%"], ["50"], True, False),
    Case("a blank before it", ["50 %"], ["50.0"], True, False),
    Case("in the gold", ["50"], ["50%"], True, False),
    Case("no part of one", ["0.5"], ["50%"], False, False),
    Case("keeps its commas", ["1,250%"], ["1250"], False, False),
    Case("the sign alone", ["%"], ["0"], False, False),
    Case("two of them", ["50%%"], ["50"], False, False),
    # Texts.
    Case("the same text", ["Vienna"], ["Vienna"], True, True),
    Case("another case", ["vienna"], ["Vienna"], False, False),
    Case("blanks around", [" Vienna "], ["Vienna"], True, False),
    Case("trailing blanks in the gold", ["Vienna"], ["Vienna  "], True, False),
    Case("a line end", ["Vienna\n"], ["Vienna"], True, False),
    Case("quotes around", ["'Vienna'"], ["Vienna"], True, False),
    Case("double quotes around", ['"Vienna"'], ["Vienna"], True, False),
    Case("an apostrophe within", ["O'Neil"], ["O'Neil"], True, True),
    Case("a blank within", ["New  York"], ["New York"], False, False),
    Case("a comma within", ["Smith, John"], ["Smith John"], True, False),
    Case("True is text", ["True"], ["1"], False, False),
    Case("True and true", ["true"], ["True"], False, False),
    Case("True, as a value", [True], ["True"], True, False),
    Case("composed and decomposed letters", ["Zu\u0308rich"], ["Zürich"], False, False),
    Case("the same letters", ["Zürich"], ["Zürich"], True, True),
    Case("an accent left out", ["Zurich"], ["Zürich"], False, False),
    Case("other dashes", ["1\u20132"], ["1-2"], False, False),
    Case("letters beyond the plane", ["\U0001f600"], ["\U0001f600"], True, True),
    # Dates and times.
    Case("a date", ["2020-01-02"], ["2020-01-02"], True, True),
    Case("another form of a date", ["2020/01/02"], ["2020-01-02"], False, False),
    Case("a date with commas", ["March 19, 1998"], ["March 19 1998"], True, False),
    Case("a date and its midnight", ["2020-01-02 00:00:00"], ["2020-01-02"], False, False),
    Case("a time", ["01:02:03"], ["1:02:03"], False, False),
    # Several.
    Case("numbers in another order", ["1", "2"], ["2", "1"], True, True),
    Case("numbers within a hundredth", ["1.005", "2"], ["1", "2"], True, False),
    Case("numbers: one too few", ["1"], ["1", "1"], False, True),
    Case("numbers: twice, all of them", ["1", "1"], ["1"], False, True),
    Case("numbers: other multiples", ["1", "1", "2"], ["1", "2", "2"], False, True),
    Case("numbers as floats", ["1.0", "2.0"], ["1", "2"], True, False),
    Case("texts in another order", ["a", "b"], ["b", "a"], True, True),
    Case("texts: duplicates are one", ["a", "a", "b"], ["a", "b"], True, True),
    Case("texts: one too many", ["a", "b"], ["a"], False, False),
    Case("texts beside numbers are a set", ["1", "1", "a"], ["1", "a"], True, True),
    Case("and without tolerance", ["1.0", "a"], ["1", "a"], False, False),
    Case("nothing is a number beside numbers", ["None", "1"], ["0", "1"], True, False),
    Case("no answers", [], ["0"], False, False),
    Case("no answers against a text", [], ["a"], False, False),
    # Texts that spell lists.
    Case("JSON", '["a", "b"]', ["b", "a"], True, True),
    Case("Python", "['a', 'b']", ["b", "a"], True, True),
    Case("a database's rows", "[('a',), ('b',)]", ["a", "b"], True, False),
    Case("a database's row", "[('a',)]", ["a"], True, False),
    Case("a database's number", "[(5,)]", ["5"], True, False),
    Case("a database's NULL", "[(None,)]", ["0"], True, False),
    Case("a database's Decimal", "[(Decimal('5.0'),)]", ["5"], False, False),
    Case("rows of two columns", "[('a', 'b')]", ["a", "b"], False, False),
    Case("a list of numbers", "[1, 2]", ["1", "2"], True, False),
    Case("one number in a list", "[1]", ["1"], True, True),
    Case("an empty list", "[]", ["0"], False, False),
    Case("without quotes", "[a, b]", ["a", "b"], True, False),
    Case("a comma within quotes", "['a, b', 'c']", ["a, b", "c"], True, True),
    Case("not closed", "['a'", ["a"], False, False),
    Case("within a list of answers", ["['a']"], ["a"], False, False),
    Case("arithmetic is not worked out", "[1+1]", ["2"], False, False),
    Case("a call is not made", "[__import__('os').getpid()]", ["0"], False, False),
    Case("a bare text", "Vienna", ["Vienna"], True, True),
    Case("a bare number", "42", ["42.0"], True, True),
    Case("no answer", None, ["0"], True, False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fc(case):
    assert answer_matches(case.answer, case.gold, "fc") is case.fc


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_classic(case):
    assert answer_matches(case.answer, case.gold, "classic") is case.classic


def test_the_cases_are_many_and_have_names_of_their_own():
    assert len({case.name for case in CASES}) == len(CASES) >= 70
