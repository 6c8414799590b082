"""Which engine has computed which prompt."""

from __future__ import annotations

from rollout_server.engines.prefixes import PrefixIndex

SHARED = tuple(range(200))


def episode(number: int, length: int = 600) -> tuple[int, ...]:
    return SHARED + tuple(1000 * number + k for k in range(length))


def test_the_longest_beginning_decides_and_what_all_share_does_not() -> None:
    index = PrefixIndex()
    assert index.find("base", episode(1)) == frozenset()
    index.add("base", episode(1, 200), 0)
    index.add("base", episode(2, 200), 1)
    assert index.find("base", episode(1)) == {0}
    assert index.find("base", episode(2)) == {1}
    assert index.find("base", episode(3)) == {0, 1}
    assert index.find("v1", episode(1)) == frozenset(), "an adapter has a cache of its own"
    assert index.find("base", (7, *episode(1))) == frozenset()
    assert index.find("base", SHARED[:10]) == frozenset(), "shorter than a block"


def test_an_engine_that_began_anew_has_nothing() -> None:
    index = PrefixIndex()
    index.add("base", episode(1), 0)
    index.add("base", episode(1, 100), 2)
    index.forget(0)
    assert index.find("base", episode(1)) == {2}
    index.forget(2)
    assert not index._owners


def test_old_ends_go_before_beginnings() -> None:
    index = PrefixIndex(blocks=9)
    index.add("base", episode(1), 0)
    assert len(index._owners) == 9
    assert index.find("base", episode(1)) == {0}
