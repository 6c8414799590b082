"""Draw envs/dbbench/data/vocabulary.json.gz, the names of generated DB Bench tasks, from Faker.

    python scripts/extract_vocabulary.py [--dest envs/dbbench/data]

Several locales, so that names are not all English; only letters that Unicode takes apart into ASCII and accents, which
every server folds alike. Sorted and without doubles; the same version of Faker always gives the same bytes. Also
writes vocabulary.NOTICE (Faker's MIT licence).
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

from faker import Faker

SEED = 20240101
LOCALES = (
    "en_US", "en_GB", "en_IN", "en_NG", "fr_FR", "de_DE", "es_ES", "es_MX", "it_IT", "pt_BR", "nl_NL", "sv_SE", "tr_TR",
    "cs_CZ", "pl_PL", "ro_RO", "hu_HU", "fi_FI", "hr_HR", "id_ID",
)  # fmt: skip
ENGLISH = ("en_US",)
# Faker keeps it_IT's towns in a set, whose order is another in each process.
WITH_TOWNS = tuple(locale for locale in LOCALES if locale != "it_IT")
# What is drawn: the method of Faker, the locales, how many values are kept, the most characters of one.
LISTS: dict[str, tuple[Callable[[Faker], str], tuple[str, ...], int, int]] = {
    "first": (lambda faker: faker.first_name(), LOCALES, 700, 12),
    "last": (lambda faker: faker.last_name(), LOCALES, 900, 14),
    "city": (lambda faker: faker.city(), WITH_TOWNS, 800, 18),
    "company": (lambda faker: faker.company(), LOCALES, 700, 26),
    "street": (lambda faker: faker.street_name(), LOCALES, 500, 22),
    "job": (lambda faker: faker.job(), ENGLISH, 250, 28),
    "country": (lambda faker: faker.country(), ENGLISH, 150, 20),
    "adjective": (lambda faker: faker.word(part_of_speech="adjective").title(), ENGLISH, 300, 12),
    "noun": (lambda faker: faker.word(part_of_speech="noun").title(), ENGLISH, 500, 12),
}
_PLAIN = re.compile(r"[A-Z](?:[A-Za-z]|[ .'&-](?=[A-Za-z(]))+\.?")


def plain(text: str) -> bool:
    """Whether every server reads the text alike: Latin letters with or without an accent, no comma, no digit."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return unicodedata.normalize("NFC", text) == text and _PLAIN.fullmatch(bare) is not None


def draw(make: Callable[[Faker], str], locales: tuple[str, ...], count: int, longest: int) -> list[str]:
    """``count`` values, every locale in turn; fewer where the locales hold fewer."""
    fakers = []
    for locale in locales:
        faker = Faker(locale)
        faker.seed_instance(SEED)
        fakers.append(faker)
    found: dict[str, str] = {}  # by what a server takes for the same
    for value in candidates(make, fakers, 40 * count):
        if len(value) <= longest and plain(value):
            folded = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode().casefold()
            found.setdefault(folded, value)
        if len(found) == count:
            break
    return sorted(found.values())


def candidates(make: Callable[[Faker], str], fakers: list[Faker], most: int) -> Iterator[str]:
    for number in range(most):
        yield make(fakers[number % len(fakers)]).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dest", type=Path, default=Path("envs/dbbench/data"))
    dest: Path = parser.parse_args().dest
    vocabulary = {name: draw(*how) for name, how in LISTS.items()}
    raw = json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")).encode()
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:  # no name, no time: the same bytes
        file.write(raw)
    (dest / "vocabulary.json.gz").write_bytes(packed.getvalue())
    faker = distribution("Faker")
    licence = next(str(path.locate()) for path in faker.files or () if path.name.startswith("LICENSE"))
    (dest / "vocabulary.NOTICE").write_text(
        f"vocabulary.json.gz was drawn from Faker {faker.version} (https://github.com/joke2k/faker) by "
        f"scripts/extract_vocabulary.py.\n\n{Path(licence).read_text(encoding='utf-8').strip()}\n",
        encoding="utf-8",
    )
    for name, values in vocabulary.items():
        print(f"{name}: {len(values)}, as in {values[:3]}")
    print(f"{len(packed.getvalue())} bytes")


if __name__ == "__main__":
    main()
