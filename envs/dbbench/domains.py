"""What generated DB Bench tasks are about: tables with realistic columns and values. All invented for this project."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DOMAINS", "Category", "Column", "Domain", "Key", "Number"]


@dataclass(frozen=True, slots=True)
class Key:
    """A column that names the row: every value once, made of two parts."""

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    pattern: str = "{} {}"


@dataclass(frozen=True, slots=True)
class Category:
    """A column with few values."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A column of numbers, written as plain decimal text with ``places`` decimals."""

    name: str
    low: int
    high: int
    places: int = 0
    summable: bool = True


type Column = Key | Category | Number


@dataclass(frozen=True, slots=True)
class Domain:
    """A kind of table: its possible names, what a row is, and its columns; the first is the key."""

    tables: tuple[str, ...]
    row: str
    rows: str
    key: Key
    columns: tuple[Category | Number, ...]


_FIRST = (
    "Amara", "Anton", "Beatriz", "Caleb", "Chiara", "Daniel", "Elif", "Emeka", "Farah", "Greta", "Hugo", "Ines", "Ivan",
    "Jun", "Kavya", "Lena", "Luis", "Malik", "Mei", "Nadia", "Noah", "Olga", "Paulo", "Priya", "Rosa", "Samir", "Sofia",
    "Tariq", "Theo", "Vera", "Yusuf", "Zoe",
)  # fmt: skip
_LAST = (
    "Adeyemi", "Almeida", "Bauer", "Carter", "Castillo", "Chen", "Dubois", "Fischer", "Garcia", "Haddad", "Ito",
    "Jansen", "Kaya", "Kim", "Kowalski", "Larsen", "Mancini", "Mbeki", "Moreau", "Nakamura", "Novak", "Okafor", "Patel",
    "Petrov", "Quinn", "Rossi", "Santos", "Silva", "Singh", "Tanaka", "Vargas", "Weber",
)  # fmt: skip
_ADJECTIVES = (
    "Amber", "Broken", "Crimson", "Distant", "Early", "Endless", "Frozen", "Gentle", "Golden", "Hidden", "Hollow",
    "Last", "Lonely", "Midnight", "Northern", "Quiet", "Restless", "Scarlet", "Second", "Silver", "Slow",
    "Southern", "Velvet", "Wild",
)  # fmt: skip
_NOUNS = (
    "Anchor", "Bridge", "Canyon", "Compass", "Daughter", "Empire", "Forest", "Garden", "Harbour", "Horizon", "Island",
    "Lantern", "Letter", "Mirror", "Mountain", "Orchard", "Promise", "River", "Shadow", "Signal", "Station", "Summer",
    "Tide", "Winter",
)  # fmt: skip
_TOWNS = (
    "Aldermoor", "Brackley", "Carrick", "Dunmore", "Eastvale", "Fairhaven", "Glenrock", "Harrow", "Inverness",
    "Kingsford", "Lakeside", "Marlow", "Norwood", "Oakridge", "Pinecrest", "Redhill", "Stonebridge", "Thornbury",
    "Westbrook", "Yarrow",
)  # fmt: skip
_CLUBS = ("United", "Rovers", "City", "Athletic", "Wanderers", "Town", "Rangers", "Albion")
_COUNTRIES = (
    "Argentina", "Australia", "Brazil", "Canada", "Egypt", "France", "Germany", "India", "Japan", "Kenya", "Mexico",
    "Norway", "Poland", "South Korea", "Spain", "Turkey",
)  # fmt: skip
_REGIONS = ("North", "South", "East", "West", "Central")

DOMAINS = (
    Domain(
        ("Films", "Film Releases", "movie_list"), "film", "films",
        Key("Title", _ADJECTIVES, _NOUNS, "The {} {}"),
        (
            Category("Genre", ("Drama", "Comedy", "Thriller", "Documentary", "Animation", "Horror")),
            Category("Country", _COUNTRIES),
            Number("Year", 1972, 2023, summable=False),
            Number("Runtime (min)", 74, 192),
            Number("Budget (million $)", 1, 210, 1),
        ),
    ),
    Domain(
        ("Employees", "Staff Directory", "company_staff"), "employee", "employees",
        Key("Name", _FIRST, _LAST),
        (
            Category("Department", ("Sales", "Engineering", "Finance", "Legal", "Marketing", "Support")),
            Category("Office", _TOWNS[:8]),
            Number("Salary", 28_000, 142_000),
            Number("Years of service", 0, 35),
        ),
    ),
    Domain(
        ("League Table", "Football Season", "club_standings"), "club", "clubs",
        Key("Club", _TOWNS, _CLUBS),
        (
            Number("Played", 20, 38),
            Number("Won", 0, 28),
            Number("Goals for", 12, 96),
            Number("Goals against", 10, 88),
            Number("Points", 9, 93),
            Category("Division", ("First", "Second", "Third")),
        ),
    ),
    Domain(
        ("Mountains", "Highest Peaks", "peaks"), "mountain", "mountains",
        Key("Peak", ("Mount", "Pico", "Cima", "Gora", "Sierra", "Ben"), (*_LAST[:20], *_TOWNS[:12])),
        (
            Category("Range", ("Silver Range", "Coastal Range", "Grey Mountains", "Sunrise Massif", "Iron Chain")),
            Category("Country", _COUNTRIES),
            Number("Height (m)", 980, 8400),
            Number("Prominence (m)", 120, 3900),
            Number("First ascent", 1786, 1985, summable=False),
        ),
    ),
    Domain(
        ("Products", "Warehouse Stock", "inventory"), "product", "products",
        Key("Product", ("Compact", "Deluxe", "Classic", "Portable", "Folding", "Solar", "Quiet", "Heavy-duty"),
            ("Lamp", "Drill", "Kettle", "Backpack", "Heater", "Radio", "Chair", "Tent", "Blender", "Scale", "Camera",
             "Fan")),
        (
            Category("Category", ("Home", "Outdoor", "Tools", "Electronics", "Travel")),
            Category("Supplier", ("Brightline", "Norvik", "Kestrel & Sons", "Omnia", "Tallis")),
            Number("Unit price", 4, 320, 2),
            Number("In stock", 0, 900),
        ),
    ),
    Domain(
        ("Library Books", "Book Catalogue", "books"), "book", "books",
        Key("Title", _NOUNS, _NOUNS, "{} and {}"),
        (
            Category("Author", tuple(f"{first} {last}" for first, last in zip(_FIRST[:12], _LAST[4:16], strict=True))),
            Category("Language", ("English", "Spanish", "Turkish", "German", "Japanese")),
            Number("Pages", 88, 940),
            Number("Copies", 1, 24),
            Number("Published", 1931, 2022, summable=False),
        ),
    ),
    Domain(
        ("Bridges", "Major Bridges", "bridge_register"), "bridge", "bridges",
        Key("Bridge", _TOWNS, ("Bridge", "Viaduct", "Crossing", "Footbridge")),
        (
            Category("Type", ("Suspension", "Arch", "Cable-stayed", "Truss", "Beam")),
            Category("Region", _REGIONS),
            Number("Length (m)", 45, 2890),
            Number("Opened", 1851, 2021, summable=False),
            Number("Daily vehicles", 300, 84_000),
        ),
    ),
    Domain(
        ("Marathon Runners", "Race Entries", "runners"), "runner", "runners",
        Key("Runner", _FIRST, _LAST),
        (
            Category("Nationality", _COUNTRIES),
            Category("Age group", ("18-34", "35-44", "45-54", "55+")),
            Number("Bib number", 1, 4000, summable=False),
            Number("Races finished", 1, 60),
            Number("Best time (min)", 128, 330, 1, summable=False),
        ),
    ),
    Domain(
        ("Power Plants", "Energy Sites", "power_stations"), "plant", "plants",
        Key("Plant", _TOWNS, ("Ridge", "Point", "Valley", "Falls")),
        (
            Category("Source", ("Wind", "Solar", "Hydro", "Gas", "Biomass", "Nuclear")),
            Category("Operator", ("Helion", "Blue Grid", "Terrawatt", "Norsk Vind")),
            Number("Capacity (MW)", 8, 2400),
            Number("Commissioned", 1961, 2023, summable=False),
            Number("Output (GWh)", 12, 18_000, 1),
        ),
    ),
)  # fmt: skip
