"""Small data sets in the layouts of Spider, BIRD and WikiSQL, made by code."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

CONCERTS = """
CREATE TABLE "stadium" ("Stadium_ID" int, "Location" text, "Name" text, "Capacity" int, "Average" real,
    PRIMARY KEY ("Stadium_ID"));
CREATE TABLE "singer" ("Singer_ID" int, "Name" text, "Country" text, "Song_release_year" text, "Age" int,
    "Is_male" bool, PRIMARY KEY ("Singer_ID"));
CREATE TABLE "concert" ("concert_ID" int, "concert_Name" text, "Theme" text, "Stadium_ID" text, "Year" text,
    PRIMARY KEY ("concert_ID"), FOREIGN KEY ("Stadium_ID") REFERENCES "stadium"("Stadium_ID"));
CREATE TABLE "singer_in_concert" ("concert_ID" int, "Singer_ID" int, PRIMARY KEY ("concert_ID", "Singer_ID"),
    FOREIGN KEY ("concert_ID") REFERENCES "concert"("concert_ID"),
    FOREIGN KEY ("Singer_ID") REFERENCES "singer"("Singer_ID"));
INSERT INTO stadium VALUES (1, 'Raith Rovers', 'Stark''s Park', 10104, 1294.5),
    (2, 'Ayr United', 'Somerset Park', 11998, 1477),
    (3, 'East Fife', 'Bayview Stadium', 2000, 864), (4, 'Stirling Albion', 'Forthbank Stadium', 3808, 638);
INSERT INTO singer VALUES (1, 'Joe Sharp', 'Netherlands', '1992', 52, 'F'),
    (2, 'Timbaland', 'United States', '2008', 32, 'T'),
    (3, 'Justin Brown', 'France', '2013', 29, 'T'), (4, 'Rose White', 'France', '2003', 41, 'F'),
    (5, 'John Nizinik', 'France', '2014', 43, 'T'), (6, 'Tribal King', 'France', '2016', 25, NULL);
INSERT INTO concert VALUES (1, 'Auditions', 'Free choice', '1', '2014'),
    (2, 'Super bootcamp', 'Free choice 2', '2', '2014'),
    (3, 'Home Visits', 'Bleeding Love', '2', '2015');
INSERT INTO singer_in_concert VALUES (1, 2), (1, 3), (1, 5), (2, 3), (2, 6), (3, 5);
"""
SPIDER = [
    ("How many singers do we have?", "SELECT count(*) FROM singer"),
    ("What is the average age of all singers from France?", 'SELECT avg(age) FROM singer WHERE country  =  "France"'),
    ("Which stadiums hold more than 3000?", "SELECT name FROM stadium WHERE capacity > 3000"),
    ("Who is the youngest singer?", "SELECT name FROM Singer ORDER BY age LIMIT 1"),
    ("What is the largest capacity?", "SELECT max(capacity) FROM stadium"),
    (
        "How many concerts did each singer sing in?",
        "SELECT S.name, count(*) FROM singer_in_concert c JOIN singer s USING (singer_id) GROUP BY C.singer_id",
    ),
    ("What do stadiums sell to half their size?", "SELECT capacity / 3 FROM stadium WHERE stadium_id = 1"),
    (
        "Which stadiums had no concert?",
        "SELECT name FROM stadium EXCEPT SELECT T2.name FROM concert AS T1 JOIN stadium AS T2 USING (stadium_id)",
    ),
    # Left out: a tie, an empty answer, no statement, a function of SQLite's own, one that SQLite refuses.
    ("Name a French singer.", "SELECT name FROM singer WHERE country = 'France' LIMIT 1"),
    ("Who sang for the first country?", "SELECT name FROM singer ORDER BY country LIMIT 1"),
    ("Who is older than 90?", "SELECT name FROM singer WHERE age > 90"),
    ("Broken?", "SELECT FROM WHERE"),
    ("What type is an age?", "SELECT typeof(age) FROM singer WHERE singer_id = 1"),
    ("What is not there?", "SELECT missing FROM singer"),
]
SCHOOLS = """
CREATE TABLE schools (CDSCode TEXT NOT NULL PRIMARY KEY, County TEXT NOT NULL, "Open Date" DATE, Charter INTEGER);
CREATE TABLE frpm (CDSCode TEXT NOT NULL PRIMARY KEY, "School Name" TEXT, "Enrollment (K-12)" REAL,
    "Percent (%) Eligible Free (K-12)" REAL, FOREIGN KEY (CDSCode) REFERENCES schools (CDSCode));
CREATE TABLE visits (id INTEGER PRIMARY KEY, CDSCode TEXT);
INSERT INTO schools VALUES ('01100170109835', 'Alameda', '2005-08-29', 1),
    ('01100170112607', 'Alameda', '2006-08-28', 1),
    ('02613330230003', 'Alpine', NULL, 0);
INSERT INTO frpm VALUES ('01100170109835', 'FAME Public Charter', 1087.0, 0.5197),
    ('01100170112607', 'Envision', 395.0, 0.4709),
    ('02613330230003', 'Bear Valley', 77.0, NULL);
"""
BIRD = [
    {
        "question_id": 0,
        "db_id": "california_schools",
        "question": "What is the highest eligible free rate for students in the schools in Alameda County?",
        "evidence": "Eligible free rate = `Percent (%) Eligible Free (K-12)`",
        "SQL": "SELECT MAX(T1.`Percent (%) Eligible Free (K-12)`) FROM frpm AS T1 INNER JOIN schools AS T2 "
        "ON T1.CDSCode = T2.CDSCode WHERE T2.County = 'Alameda'",
        "difficulty": "simple",
    },
    {
        "question_id": 1,
        "db_id": "california_schools",
        "question": "What part of the schools are charter schools?",
        "evidence": "",
        "SQL": "SELECT CAST(SUM(CASE WHEN Charter = 1 THEN 1 ELSE 0 END) AS REAL) * 100 / COUNT(*) FROM schools",
        "difficulty": "moderate",
    },
    {
        "question_id": 2,
        "db_id": "california_schools",
        "question": "When did the charter schools open, by year?",
        "evidence": "",
        "SQL": "SELECT STRFTIME('%Y', `Open Date`) FROM schools WHERE Charter = 1 ORDER BY `Open Date`",
        "difficulty": "simple",
    },
    {
        "question_id": 3,
        "db_id": "california_schools",
        "question": "How many visits were there?",
        "evidence": "",
        "SQL": "SELECT COUNT(*) FROM visits",
        "difficulty": "challenging",
    },
]
WIKISQL_TABLE = {
    "id": "1-10007452-3",
    "page_title": "List of SBS buses",
    "header": ["Order Year", "Manufacturer", "Model", "Fleet  Series (Quantity)", "Powertrain", "manufacturer"],
    "types": ["real", "text", "text", "text", "text", "text"],
    "rows": [
        [1992, "Gillig", "Phantom (High Floor)", "444-464 (21)", "DD S50EGR", "a"],
        [1996, "Gillig", "Phantom (High Floor)", "465-467 (3)", "DD S50", "b"],
        [1998, "NFI", "D40LF (Low Floor)", "700-721 (22)", "Cummins ISC", "c"],
        ["1,999", "NFI", "D40LF (Low Floor)", "722-727 (6)", "Cummins ISC", "d"],
    ],
    "name": "table_10007452_3",
}
WIKISQL = [
    ("who is the manufacturer for the order year 1998?", {"sel": 1, "agg": 0, "conds": [[0, 0, "1998"]]}),
    ("how many models are by gillig?", {"sel": 2, "agg": 3, "conds": [[1, 0, "gillig"]]}),
    ("what is the last order year?", {"sel": 0, "agg": 1, "conds": []}),
    ("what is the sum of order years after 1995?", {"sel": 0, "agg": 4, "conds": [[0, 1, 1995]]}),
    ("what has the powertrain X?", {"sel": 2, "agg": 0, "conds": [[4, 0, "X"]]}),
    ("what is no statement?", {"sel": 9, "agg": 0, "conds": []}),
]


def write_spider(root: Path, *, questions: Sequence[tuple[str, str]] = SPIDER, script: str = CONCERTS) -> Path:
    """``dev.json``, ``train_spider.json``, ``tables.json`` and the database ``concert_singer``."""
    folder = root / "database" / "concert_singer"
    folder.mkdir(parents=True)
    write_sqlite(folder / "concert_singer.sqlite", script)
    rows = [{"db_id": "concert_singer", "query": sql, "question": text, "query_toks": []} for text, sql in questions]
    (root / "dev.json").write_text(json.dumps(rows))
    (root / "train_spider.json").write_text(json.dumps(rows[:2]))
    (root / "train_others.json").write_text(json.dumps(rows[2:3]))
    (root / "tables.json").write_text(json.dumps([{"db_id": "concert_singer", "table_names_original": []}]))
    return root


def write_bird(root: Path) -> Path:
    """``dev.json`` with evidence and difficulty; ``dev_tables.json`` has a key that the file has not."""
    folder = root / "dev_databases" / "california_schools"
    folder.mkdir(parents=True)
    write_sqlite(folder / "california_schools.sqlite", SCHOOLS + "INSERT INTO visits VALUES (1, '01100170109835');")
    (root / "dev.json").write_text(json.dumps(BIRD))
    listed = {
        "db_id": "california_schools",
        "table_names_original": ["schools", "frpm", "visits"],
        "column_names_original": [[-1, "*"], [0, "CDSCode"], [1, "CDSCode"], [2, "id"], [2, "CDSCode"]],
        "primary_keys": [1, 2, 3],
        "foreign_keys": [[2, 1], [4, 1]],
    }
    (root / "dev_tables.json").write_text(json.dumps([listed]))
    return root


def write_wikisql(root: Path) -> Path:
    """``dev.jsonl`` and ``dev.tables.jsonl`` under ``data``, as the archive unpacks."""
    folder = root / "data"
    folder.mkdir(parents=True)
    rows = [{"phase": 1, "table_id": WIKISQL_TABLE["id"], "question": text, "sql": sql} for text, sql in WIKISQL]
    (folder / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "dev.tables.jsonl").write_text(json.dumps(WIKISQL_TABLE) + "\n")
    return root


def write_sqlite(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
