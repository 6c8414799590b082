from __future__ import annotations

import hashlib

import pytest

from envs.dbbench.scoring import TableHasher, answer_matches, combine_hashes, gold_hash, hash_matches

# (answer, gold, matches): probed on AgentBench's result_processor.py.
FC = [
    # One against one.
    (["12.009"], ["12.0"], True),
    (["12.011"], ["12.0"], False),
    (["1,234"], ["1234.0"], True),
    (["$1,234"], ["1234.0"], False),
    ([""], ["0"], True),
    (["none"], ["0"], True),
    (["NULL"], ["none"], True),
    (["Undefined"], ["0"], True),
    (["NaN"], ["0"], True),
    (["-inf"], ["0"], True),
    (["Infinity"], ["0.005"], True),
    (["+inf"], ["+inf"], False),  # inf - inf is no number
    (["vienna"], ["Vienna"], False),
    (["Vienna"], ["Vienna"], True),
    ([" 'Vienna' "], ["Vienna"], True),
    (['"Vienna"'], ["Vienna"], True),
    (["50%"], ["50"], True),
    (["50 %"], ["50.0"], True),
    (["1,250%"], ["1250"], False),  # a value with % keeps its commas
    (["none%"], ["0"], False),
    (["1e2"], ["100"], True),
    (["1_000"], ["1000"], True),
    (["Smith, John"], ["Smith John"], True),
    (["1\u20130"], ["1-0"], False),
    ([7], ["7.0"], True),
    ([None], ["none"], True),
    ([True], ["True"], True),
    # Several.
    (["1", "2"], ["2.0", "1.0"], True),
    (["1", "1"], ["1", "2"], False),
    (["1", "1"], ["1"], False),
    (["1", "1.005"], ["1", "1"], True),
    (["a", "a"], ["a"], True),  # sets, where not all are numbers
    (["a", "1"], ["1", "a"], True),
    (["a", "1.0"], ["1", "a"], False),
    (["a", "b"], ["a"], False),
    ([], ["0"], False),
    ([], ["none"], False),
    ([], ["a"], False),
    # Texts that spell lists.
    ('["a", "b"]', ["b", "a"], True),
    ("['a', 'b']", ["b", "a"], True),
    ("[('a',)]", ["a"], True),
    ("[('a',), ('b',)]", ["b", "a"], True),
    ("[('a', 'b')]", ["a"], False),  # rows of two columns are dropped
    ("[(5,)]", ["5.0"], True),
    ("[(None,)]", ["0"], True),
    ("[(abc,)]", ["abc"], True),
    ("[a, b]", ["b", "a"], True),
    ("['a, b', c]", ["a, b", "c"], True),
    ('["O\'Neil"]', ["O'Neil"], True),
    ("[]", ["0"], False),
    ("[1],[2]", ["1", "2"], False),  # a literal, but no list
    ("", ["0"], True),
    ("42", ["42.0"], True),
    ("1,234", ["1234"], True),
    (None, ["0"], True),
    ("[1+1]", ["1+1"], True),  # never evaluated
    ("[__import__('os').getcwd()]", ["0"], False),
    # Hostile.
    ("[" * 100_000 + "]" * 100_000, ["0"], False),
    ("[0x" + "f" * 20_000 + "]", ["0"], False),
    ("[" + "9" * 10_000 + "]", ["0"], False),
]

CLASSIC = [
    ('["12.0"]', ["12"], True),
    ('["12.001"]', ["12"], False),
    ('["a"]', ["a"], True),
    ('["A"]', ["a"], False),
    ("a", ["a"], True),
    (" a", ["a"], False),
    ('["1,234"]', ["1234"], False),
    ('["none"]', ["0"], False),
    ('["a", "b"]', ["b", "a"], True),
    ('["a", "a"]', ["a"], True),
    ("[1, 2]", ["1", "2"], False),
    ("[[1], [2]]", ["1", "2"], False),
    ("[1]", ["1.0"], True),
    (["a"], ["a"], True),
    ([], ["0"], False),
    (None, ["0"], False),
    ("", ["0"], False),
]


@pytest.mark.parametrize(("answer", "gold", "matches"), FC)
def test_fc_rules(answer, gold, matches):
    assert answer_matches(answer, gold, "fc") is matches


@pytest.mark.parametrize(("answer", "gold", "matches"), CLASSIC)
def test_classic_rules(answer, gold, matches):
    assert answer_matches(answer, gold, "classic") is matches


def _digest(*rows: str | None) -> str:
    hasher = TableHasher()
    for row in rows:
        hasher.add(row)
    return hasher.digest()


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_table_hash_is_that_of_the_original():
    rows = ["a,1", "b,2", "a,1"]
    assert _digest(*rows) == _md5(",".join(sorted(_md5(row)[:5] for row in rows)))
    assert _digest("b,2", None, "a,1", "a,1") == _digest(*rows)
    assert _digest(*rows[:2]) != _digest(*rows)


def test_table_hash_is_cut_as_mysql_cuts_group_concat():
    rows = [str(i) for i in range(400)]
    joined = ",".join(sorted(_md5(row)[:5] for row in rows))
    assert len(joined) > 1024
    assert _digest(*rows) == _md5(joined[:1024])


def test_empty_table_and_several_tables():
    assert _digest() == "None"
    assert hash_matches(_digest(), gold_hash("[(None,)]"))
    assert combine_hashes(["b", "a"]) == "a_b"


def test_gold_hash_reads_the_printed_result_and_the_bare_hash():
    digest = _md5("x")
    assert gold_hash(f"[('{digest}',)]") == digest
    assert gold_hash(digest) == digest
    with pytest.raises(ValueError, match="one hash"):
        gold_hash("[('a',), ('b',)]")
