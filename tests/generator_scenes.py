"""Small scenes by hand, for tests of the generator of DB Bench tasks."""

from __future__ import annotations

from envs.dbbench.generator_draw import Draw
from envs.dbbench.generator_scene import Field, Join, Scene, SceneTable, parse_cells
from envs.dbbench.tables import ForeignKey, Table

NAME = Field("Name", "name", "name")
GENRE = Field("Genre", "genre", "category")
SCORE = Field("Score", "score", "number", additive=True)


def flat(rows, fields=(NAME, GENRE, SCORE), **changes) -> Scene:
    """One table of TEXT columns."""
    rows = tuple(tuple(row) for row in rows)
    table = Table("Films", tuple(field.name for field in fields), rows)
    made = SceneTable("film", "films", table, tuple(fields), parse_cells(fields, rows))
    return Scene(Draw("test"), "films", (made,), (), 0, **{"spare": (), **changes})


def typed(tables, joins=(), main=0) -> Scene:
    """Typed tables: of each, its name, fields and rows. A join is (child, column, parent, role)."""
    made, links = [], tuple(Join(*join) for join in joins)
    for t, (name, fields, cells) in enumerate(tables):
        rows = tuple(tuple(row) for row in cells)
        keys = tuple(
            ForeignKey((fields[join.column].name,), tables[join.parent][0], (tables[join.parent][1][0].name,))
            for join in links
            if join.child == t
        )
        table = Table(name, tuple(f.name for f in fields), rows, tuple(f.type for f in fields), (fields[0].name,), keys)
        made.append(SceneTable(name.removesuffix("s"), name, table, tuple(fields), parse_cells(fields, rows)))
    return Scene(Draw("test"), "films", tuple(made), links, main, ())


ID = Field("id", "id", "id", "INT")
TITLE = Field("title", "title", "name", "VARCHAR(40)")
COUNTRY = Field("country", "country", "category", "VARCHAR(40)")
PRICE = Field("price", "price", "number", "DECIMAL(10,2)", 2, additive=True, nullable=True)
DAY = Field("day", "day", "date", "DATE", nullable=True)


def link(name: str, said: str) -> Field:
    """A column that names a row of another table."""
    return Field(name, said, "link", "INT")


def studios(*films, joins=((1, 4, 0, "studio"),), more=()) -> Scene:
    """Two tables, studios and their films: (id, title, price, day, studio_id, …)."""
    rows = (("1", "Alpha", "France"), ("2", "Beta", "Peru"), ("3", "Gamma", "France"))
    return typed(
        [
            ("studios", (ID, TITLE, COUNTRY), rows),
            ("films", (ID, TITLE, PRICE, DAY, link("studio_id", "studio"), *more), films),
        ],
        joins,
        main=1,
    )


FILMS = (
    ("1", "Red", "10.50", "2020-01-05", "1"),
    ("2", "Blue", "7.25", None, "2"),
    ("3", "Green", None, "2021-03-01", "1"),
    ("4", "Grey", "3.10", "2021-12-31", "3"),
    ("5", "Black", "12.00", "2019-06-30", "2"),
)
