"""Domains of generated DB Bench tasks: films, music, books, art, sport. All invented for this project."""

from __future__ import annotations

from envs.dbbench.domain_kinds import Category, Day, Domain, Entity, Link, Name, Number

__all__ = ["CULTURE"]

_PERSON = ("{first} {last}",)
_TITLE = ("The {adjective} {noun}", "{adjective} {noun}", "{noun} of the {noun}", "The {noun} and the {noun}")

CULTURE = (
    Domain("films", "film", (
        Entity("studio", "studios", ("Film Studios",), Name("name", "Studio", ("{company}",)), (
            Category("country", "Country", "country"),
            Number("founding_year", "Founded", 1910, 2010, additive=False),
            Number("employees", "Employees", 12, 4200),
        )),
        Entity("director", "directors", ("Directors",), Name("name", "Director", _PERSON), (
            Category("birthplace", "Born in", "city"),
            Number("awards", "Awards", 1, 40),
        )),
        Entity("film", "films", ("Films", "Film Releases", "movie_list", "Films of the decade"),
            Name("title", "Title", _TITLE), (
            Category("genre", "Genre", ("Drama", "Comedy", "Thriller", "Documentary", "Animation", "Horror")),
            Category("camera", "Camera by", ("Ana Lopes", "Karl Brandt", "Mei Tanaka", "Owen Hale", "Rita Novak")),
            Number("year", "Year", 1972, 2023, additive=False),
            Number("runtime", "Runtime (min)", 74, 192),
            Number("budget", "Budget (million $)", 1, 210, 1),
            Number("box_office", "Box office ($)", 20_000, 900_000),
            Day("release_date", "Release date (UK)", 1999, 2023),
        ), (
            Link("studio_id", "Studio", "studio", "studio"),
            Link("director_id", "Directed by", "director", "director"),
        )),
        Entity("screening", "screenings", ("Screenings",), None, (
            Day("screening_date", "Date", 2021, 2024),
            Category("hall", "Hall", ("Red Hall", "Blue Hall", "Studio One", "Open Air")),
            Number("tickets_sold", "Tickets sold", 4, 380),
            Number("ticket_price", "Ticket price ($)", 5, 24, 2),
        ), (Link("film_id", "Film", "film", "film"),)),
    )),
    Domain("music", "album", (
        Entity("artist", "artists", ("Artists",),
            Name("name", "Artist", ("The {noun}s", *_PERSON, "{adjective} {noun}")), (
            Category("country", "Country", "country"),
            Category("style", "Style", ("Jazz", "Rock", "Folk", "Soul", "Electronic")),
            Number("formation_year", "Formed", 1961, 2018, additive=False),
        )),
        Entity("album", "albums", ("Albums", "Discography", "album_chart", "Music Chart History"),
            Name("title", "Album", ("{noun}", "{adjective} {noun}", "{noun} and {noun}")), (
            Category("label", "Label", ("Blue Door", "Northlight", "Parlour", "Sixth Street", "Tidal Arc")),
            Category("format", "Format(s)", ("CD", "LP", "Cassette", "Digital download")),
            Number("tracks", "# of tracks", 6, 24),
            Number("peak_position", "Peak pos.", 1, 100, additive=False),
            Number("weeks", "Weeks on chart", 1, 80),
            Number("copies_sold", "Copies sold", 900, 640_000),
            Day("release_date", "Released", 1985, 2023),
        ), (Link("artist_id", "Artist", "artist", "artist"),)),
        Entity("review", "reviews", ("Reviews",), None, (
            Category("magazine", "Magazine", ("Soundings", "Loud", "The Groove", "Echo Monthly")),
            Number("stars", "Stars (of 10)", 2, 10, additive=False),
            Number("words", "Words", 120, 2400),
        ), (Link("album_id", "Album", "album", "album"),)),
    )),
    Domain("books", "book", (
        Entity("author", "authors", ("Authors",), Name("name", "Author", _PERSON), (
            Category("nationality", "Nationality", "country"),
            Number("birth_year", "Born", 1921, 1989, additive=False),
        )),
        Entity("publisher", "publishers", ("Publishers",), Name("name", "Publisher", ("{company}",)), (
            Category("seat", "Seat", "city"),
            Number("titles", "Titles", 20, 4000),
        )),
        Entity("book", "books", ("Library Books", "Book Catalogue", "books"), Name("title", "Title", _TITLE), (
            Category("language", "Language", ("English", "Spanish", "Turkish", "German", "Japanese", "Portuguese")),
            Category("subject", "Subject / genre", ("History", "Poetry", "Crime", "Travel", "Science", "Cooking")),
            Number("pages", "No. of pages", 88, 940),
            Number("copies", "Copies", 2, 40),
            Number("publication_year", "First published", 1931, 2022, additive=False),
            Number("price", "Price (EUR)", 4, 60, 2),
        ), (
            Link("author_id", "Author", "author", "author"),
            Link("publisher_id", "Publisher", "publisher", "publisher"),
        )),
        Entity("loan", "loans", ("Loans",), None, (
            Category("branch", "Branch", ("Old Town", "Riverside", "Station Road", "University")),
            Day("loan_date", "Lent on", 2022, 2024),
            Number("days_kept", "Days kept", 1, 60),
            Number("fine", "Fine (EUR)", 0, 12, 2),
        ), (Link("book_id", "Book", "book", "book"),)),
    )),
    Domain("paintings", "painting", (
        Entity("museum", "museums", ("Museums",), Name("name", "Museum", ("{city} Museum", "{last} Collection")), (
            Category("city", "City", "city"),
            Number("visitors", "Visitors a year", 4_000, 900_000),
            Number("rooms", "Rooms", 4, 90),
        )),
        Entity("painting", "paintings", ("Paintings", "Art Inventory", "gallery_works"),
            Name("title", "Work", ("{adjective} {noun}", "Portrait of {first} {last}", "{noun} near {city}")), (
            Category("technique", "Technique", ("Oil on canvas", "Watercolour", "Tempera", "Gouache", "Fresco")),
            Category("painter", "Painted by", ("A. Moreau", "G. Rossi", "H. Larsen", "J. Kowalska", "P. Santos")),
            Number("year", "Year painted", 1610, 1990, additive=False),
            Number("height", "Height (cm)", 18, 320),
            Number("width", "Width (cm)", 18, 410),
            Number("value", "Value (thousand $)", 2, 9000, 1),
            Number("inventory_number", "Inventory no", 7, 2400, additive=False, code=True),
        ), (Link("museum_id", "Museum", "museum", "museum"),)),
    )),
    Domain("football", "match", (
        Entity("club", "clubs", ("Clubs",),
            Name("name", "Club", ("{city} {end}",), {"end": ("United", "Rovers", "City", "Athletic", "Albion")}), (
            Category("town", "Town", "city"),
            Number("founding_year", "Founded", 1871, 1999, additive=False),
            Number("stadium_seats", "Stadium seats", 2_500, 61_000),
        )),
        Entity("match", "matches", ("Football Matches", "Game Schedule", "season_results"),
            Name("code", "Match #", ("{round}-{number}",), {
                "round": ("A", "B", "C", "D", "E", "F", "G"), "number": tuple(str(n) for n in range(101, 160)),
            }), (
            Category("competition", "Competition", ("League", "Cup", "Friendly", "Super Cup")),
            Category("referee", "Referee", ("D. Okafor", "L. Petrov", "M. Quinn", "S. Ito")),
            Day("match_date", "Date", 2018, 2024),
            Number("home_goals", "Home goals", 0, 6),
            Number("away_goals", "Away goals", 0, 6),
            Number("attendance", "Attendance", 900, 58_000),
            Number("week", "Week", 1, 38, additive=False),
        ), (
            Link("home_club_id", "Home team", "home club", "club"),
            Link("away_club_id", "Away team", "away club", "club"),
        )),
    )),
    Domain("runners", "runner", (
        Entity("team", "teams", ("Teams",), Name("name", "Team", ("{city} Harriers", "{adjective} Runners")), (
            Category("country", "Country", "country"),
            Number("members", "Members", 8, 900),
        )),
        Entity("runner", "runners", ("Marathon Runners", "Race Entries", "runners"), Name("name", "Runner", _PERSON), (
            Category("nationality", "Nat.", "country"),
            Category("age_group", "Age group", ("18-34", "35-44", "45-54", "over 55")),
            Number("bib", "Bib number", 1, 4000, additive=False, code=True),
            Number("races", "Races finished", 1, 60),
            Number("best_time", "Best time (min)", 128, 330, 1, additive=False),
            Number("prize_money", "Prize money ($)", 100, 90_000),
        ), (Link("team_id", "Team", "team", "team"),)),
        Entity("result", "results", ("Results",), None, (
            Category("race", "Race", ("Spring Marathon", "City Half", "Lake Run", "Night 10K")),
            Day("race_date", "Date", 2020, 2024),
            Number("position", "Pos.", 1, 300, additive=False),
            Number("minutes", "Minutes", 31, 330, 1, additive=False),
        ), (Link("runner_id", "Runner", "runner", "runner"),)),
    )),
    Domain("television", "episode", (
        Entity("show", "shows", ("Shows",),
            Name("title", "Show", ("{noun} Street", "The {noun}", "{adjective} {noun}")), (
            Category("channel", "Channel", ("Canal 6", "Orbit", "Kanal 2", "TV North")),
            Number("start_year", "Started", 1985, 2019, additive=False),
        )),
        Entity("episode", "episodes", ("TV Episodes", "Episode Guide", "episodes"),
            Name("title", "Episode title", ("{noun}", "The {adjective} {noun}", "{first} and the {noun}")), (
            Category("writer", "Written by", ("B. Adeyemi", "C. Weber", "F. Castillo", "N. Silva")),
            Category("season", "Season", ("S1", "S2", "S3", "S4")),
            Number("length", "Length (min)", 21, 95),
            Number("viewers", "Viewers (millions)", 1, 14, 2),
            Day("air_date", "Original airdate", 2004, 2022),
            Number("production_code", "Prod. code", 3, 899, additive=False, code=True),
        ), (Link("show_id", "Series", "show", "show"),)),
    )),
)  # fmt: skip
