"""MySQL's functions on texts, for SQLite to call."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from envs.dbbench.sqlite_collation import compare_texts, sort_key
from envs.dbbench.sqlite_function import Function, bounded
from envs.dbbench.sqlite_types import EXACT
from envs.dbbench.sqlite_values import as_decimal, as_int, as_number, as_text

__all__ = ["TEXT_FUNCTIONS"]


def _substring(text: str, start: int, length: int | None = None) -> str:
    if start == 0 or (length is not None and length <= 0) or abs(start) > len(text):
        return ""
    begin = start - 1 if start > 0 else len(text) + start
    return text[begin:] if length is None else text[begin : begin + length]


def _substring_index(text: str, mark: str, count: int) -> str:
    if not mark or count == 0:
        return ""
    parts = text.split(mark)
    return mark.join(parts[:count] if count > 0 else parts[count:])


def _locate(needle: str, text: str, start: int = 1) -> int:
    if start < 1 or start > len(text) + 1:
        return 0
    if not needle:
        return start
    keys, wanted = sort_key(text), sort_key(needle)
    if len(keys) == len(text) and wanted:
        return keys.find(wanted, start - 1) + 1
    for at in range(start - 1, len(text) - len(needle) + 1):
        if compare_texts(text[at : at + len(needle)], needle) == 0:
            return at + 1
    return 0


def _pad(text: str, length: int, fill: str, *, left: bool) -> str | None:
    if length < 0:
        return None
    if length <= len(text):
        return text[:length]
    if not fill:
        return ""
    bounded(length)
    missing = length - len(text)
    filling = (fill * (missing // len(fill) + 1))[:missing]
    return filling + text if left else text + filling


def _repeat(text: str, count: int) -> str:
    if count <= 0:
        return ""
    bounded(len(text.encode("utf-8", "surrogatepass")) * count)
    return text * count


def _insert(text: str, start: int, length: int, new: str) -> str:
    if not 1 <= start <= len(text):
        return text
    end = len(text) if length < 0 else start - 1 + length
    return text[: start - 1] + new + text[end:]


def _mapped(text: str, how: Callable[[str], str]) -> str:
    """Case by case, as MySQL maps it: a character stays one."""
    found = how(text)
    return found if len(found) == len(text) else "".join(c if len(how(c)) != 1 else how(c) for c in text)


def _trim(text: str, side: str, mark: str) -> str:
    if not mark:
        return text
    if mark == " ":
        return text.strip(" ") if side == "BOTH" else text.lstrip(" ") if side == "LEADING" else text.rstrip(" ")
    while side != "TRAILING" and text.startswith(mark):
        text = text[len(mark) :]
    while side != "LEADING" and text.endswith(mark):
        text = text[: -len(mark)]
    return text


def _field(wanted: Any, *values: Any) -> int:
    if wanted is None:
        return 0
    if all(isinstance(value, str) for value in (wanted, *values) if value is not None):
        places = (
            at for at, value in enumerate(values, start=1) if value is not None and not compare_texts(value, wanted)
        )
    else:
        number = as_number(wanted)
        places = (at for at, value in enumerate(values, start=1) if value is not None and as_number(value) == number)
    return next(places, 0)


def _find_in_set(text: str, items: str) -> int:
    if not items or "," in text:
        return 0
    return next((at for at, item in enumerate(items.split(","), start=1) if compare_texts(item, text) == 0), 0)


def _elt(number: int | None, *values: Any) -> Any:
    return values[number - 1] if number is not None and 1 <= number <= len(values) else None


def _concat(*values: str) -> str:
    return "".join(values)


def _concat_ws(mark: str | None, *values: str | None) -> str | None:
    return None if mark is None else mark.join(value for value in values if value is not None)


def _format(value: Any, digits: int) -> str:
    rounded = as_decimal(value).quantize(Decimal(1).scaleb(-min(max(digits, 0), 30)), ROUND_HALF_UP, EXACT)
    return f"{rounded:,f}"


def _sha2(text: bytes | str, bits: int) -> str | None:
    name = {0: "sha256", 224: "sha224", 256: "sha256", 384: "sha384", 512: "sha512"}.get(bits)
    return None if name is None else hashlib.new(name, _raw(text)).hexdigest()


def _raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else as_text(value).encode("utf-8", "surrogateescape")


def _hex(value: Any) -> str:
    if isinstance(value, int):
        return f"{value & (2**64 - 1):X}"
    if isinstance(value, float):
        return f"{as_int(value) & (2**64 - 1):X}"
    return _raw(value).hex().upper()


def _unhex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text.rjust(len(text) + len(text) % 2, "0"))
    except ValueError:
        return None


def _conv(text: str, source: int, target: int) -> str | None:
    if not 2 <= abs(source) <= 36 or not 2 <= abs(target) <= 36:
        return None
    value = 0
    negative = text.startswith("-")
    for char in text.removeprefix("-").lower()[:100]:
        digit = "0123456789abcdefghijklmnopqrstuvwxyz".find(char)
        if not 0 <= digit < abs(source):
            break
        value = value * abs(source) + digit
    value = (-value if negative else value) & (2**64 - 1)
    sign = ""
    if target < 0 and value >= 2**63:
        sign, value = "-", 2**64 - value
    digits = ""
    while value:
        value, digit = divmod(value, abs(target))
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + digits
    return sign + (digits or "0")


def _soundex(text: str) -> str:
    codes = {**dict.fromkeys("BFPV", "1"), **dict.fromkeys("CGJKQSXZ", "2"), **dict.fromkeys("DT", "3"), "L": "4"}
    codes |= {**dict.fromkeys("MN", "5"), "R": "6"}
    letters = [char for char in text.upper() if char.isalpha()]
    if not letters:
        return ""
    found, last = letters[0], codes.get(letters[0], "0")
    for char in letters[1:]:
        code = "" if char in "HW" else codes.get(char, "0")
        if code and code != last:
            last = code
            found += code.replace("0", "")
        elif code:
            last = code
    return found.ljust(4, "0")


def _char(*codes: int | None) -> bytes:
    found = b""
    for code in codes:
        if code is not None:
            number = code & 0xFFFFFFFF
            found += number.to_bytes(max((number.bit_length() + 7) // 8, 1), "big")
    return found


def _texts() -> dict[str, Function]:
    text = Function
    return {
        "concat": text(_concat, 1, -1, "t", "text"),
        "concat_ws": text(_concat_ws, 2, -1, "t", "text", nulls=True),
        "left": text(lambda s, n: s[: max(n, 0)], 2, 2, "ti", "text"),
        "right": text(lambda s, n: s[-n:] if n > 0 else "", 2, 2, "ti", "text"),
        "substring": text(_substring, 2, 3, "ti", "text"),
        "substring_index": text(_substring_index, 3, 3, "tti", "text"),
        "locate": text(_locate, 2, 3, "tti", "int"),
        "instr": text(lambda s, n: _locate(n, s), 2, 2, "t", "int"),
        "lpad": text(lambda s, n, f: _pad(s, n, f, left=True), 3, 3, "tit", "text"),
        "rpad": text(lambda s, n, f: _pad(s, n, f, left=False), 3, 3, "tit", "text"),
        "repeat": text(_repeat, 2, 2, "ti", "text"),
        "space": text(lambda n: _repeat(" ", n), 1, 1, "i", "text"),
        "reverse": text(lambda s: s[::-1], 1, 1, "t", "text"),
        "char_length": text(len, 1, 1, "t", "int"),
        "length": text(lambda v: len(_raw(v)), 1, 1, "v", "int"),
        "bit_length": text(lambda v: 8 * len(_raw(v)), 1, 1, "v", "int"),
        "upper": text(lambda s: _mapped(s, str.upper), 1, 1, "t", "text"),
        "lower": text(lambda s: _mapped(s, str.lower), 1, 1, "t", "text"),
        "ltrim": text(lambda s: s.lstrip(" "), 1, 1, "t", "text"),
        "rtrim": text(lambda s: s.rstrip(" "), 1, 1, "t", "text"),
        "trim3": text(_trim, 3, 3, "t", "text", inner=True),
        "replace": text(lambda s, a, b: s.replace(a, b) if a else s, 3, 3, "t", "text"),
        "insert": text(_insert, 4, 4, "tiit", "text"),
        "field": text(_field, 2, -1, "v", "int", nulls=True),
        "find_in_set": text(_find_in_set, 2, 2, "t", "int"),
        "elt": text(_elt, 2, -1, "iv", "text", nulls=True),
        "format": text(_format, 2, 3, "vi", "text"),
        "strcmp": text(compare_texts, 2, 2, "t", "int"),
        "ascii": text(lambda v: (_raw(v) or b"\0")[0], 1, 1, "v", "int"),
        "ord": text(lambda s: int.from_bytes(s[:1].encode("utf-8", "surrogateescape"), "big"), 1, 1, "t", "int"),
        "char_of": text(_char, 1, -1, "i", "binary", nulls=True, inner=True),
        "char_text": text(lambda *c: _char(*c).decode("utf-8", "replace"), 1, -1, "i", "text", nulls=True, inner=True),
        "quote": text(
            lambda s: "NULL" if s is None else "'" + re.sub(r"(['\\])", r"\\\1", s) + "'", 1, 1, "t", "text", nulls=True
        ),
        "hex": text(_hex, 1, 1, "v", "text"),
        "unhex": text(_unhex, 1, 1, "t", "binary"),
        "bin": text(lambda n: f"{n & (2**64 - 1):b}", 1, 1, "i", "text"),
        "oct": text(lambda n: f"{n & (2**64 - 1):o}", 1, 1, "i", "text"),
        "conv": text(_conv, 3, 3, "tii", "text"),
        "md5": text(lambda v: hashlib.md5(_raw(v), usedforsecurity=False).hexdigest(), 1, 1, "v", "text"),
        "sha1": text(lambda v: hashlib.sha1(_raw(v), usedforsecurity=False).hexdigest(), 1, 1, "v", "text"),
        "sha2": text(_sha2, 2, 2, "vi", "text"),
        "crc32": text(lambda v: zlib.crc32(_raw(v)), 1, 1, "v", "int"),
        "to_base64": text(lambda v: base64.b64encode(_raw(v)).decode(), 1, 1, "v", "text"),
        "from_base64": text(_from_base64, 1, 1, "t", "binary"),
        "soundex": text(_soundex, 1, 1, "t", "text"),
        "to_text": text(as_text, 1, 1, "v", "text", inner=True),
        "float_text": text(lambda v: as_text(float(f"{v:.6g}")), 1, 1, "v", "text", inner=True),
    }  # fmt: skip


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


TEXT_FUNCTIONS: dict[str, Function] = _texts()
