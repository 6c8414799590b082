"""Tasks whose file has the statement alone are played like any other."""

from __future__ import annotations

import json

import pytest
from dbbench_helpers import commit, run

from envs.dbbench.family import DbBenchFamily
from envs.registry import DBBENCH

TABLES = [
    {
        "table_name": "orders",
        "table_info": {
            "columns": [{"name": "id", "type": "int"}, {"name": "total", "type": "decimal(8,2)"}],
            "rows": [[1, "10.50"], [2, "4.25"], [3, None]],
            "primary_key": ["id"],
        },
    }
]
ROWS = [
    {
        "typed": True,
        "type": ["aggregation-SUM"],
        "description": "What is the total of all orders?",
        "sql": {"query": "SELECT SUM(total) FROM orders"},
        "table": TABLES,
    },
    {
        "typed": True,
        "type": ["UPDATE"],
        "description": "Set the total of order 3 to 1.",
        "label": ["UPDATE orders SET total = 1 WHERE id = 3"],
        "table": TABLES,
    },
]


@pytest.fixture
def family(binary, tmp_path, monkeypatch):
    monkeypatch.setenv("ENVLOOP_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "train_orders.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    family = DbBenchFamily(DBBENCH, server_binary=binary, data_dir=str(tmp_path))
    yield family
    family.close()


def test_a_question_without_a_label(family):
    for answer, reward in (("14.75", 1.0), ("14.7", 0.0)):
        env = family.make()
        env.reset(family.task("train_orders/0"))
        assert run(env, "SELECT * FROM orders WHERE id < 3").observation.text == (
            "[(1, Decimal('10.50')), (2, Decimal('4.25'))]"
        )
        assert commit(env, answer).reward == reward


def test_a_change_without_a_hash(family):
    for value, reward in ((1, 1.0), (2, 0.0)):
        env = family.make()
        env.reset(family.task("train_orders/1"))
        assert run(env, f"UPDATE orders SET total = {value} WHERE id IN (3)").valid
        assert commit(env, "done").reward == reward
    assert family.live_databases == 0
