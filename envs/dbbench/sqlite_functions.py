"""MySQL's functions on texts and numbers, for SQLite to call. Those on dates are in ``sqlite_time.py``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any

from envs.dbbench.sqlite_collation import compare_texts, sort_key
from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_regex import matcher
from envs.dbbench.sqlite_types import EXACT
from envs.dbbench.sqlite_values import as_decimal, as_int, as_number, as_text, decimal_text, is_number, leading_number

__all__ = ["FUNCTIONS", "MAX_TEXT", "Function"]

MAX_TEXT = 16 * 2**20  # bytes of one value, MySQL's max_allowed_packet in effect


@dataclass(frozen=True, slots=True)
class Function:
    """A function: how many arguments (``most`` -1: any number), how each is read, its result's type.

    ``takes`` has a letter for each argument, the last for all further: ``t`` text, ``n`` number, ``i`` integer, ``v``
    as it is. A NULL makes NULL unless ``nulls``. ``inner`` ones cannot be called by name.
    """

    run: Callable[..., Any]
    least: int
    most: int
    takes: str
    gives: str
    nulls: bool = False
    inner: bool = False
    pure: bool = True

    def bound(self) -> Callable[..., Any]:
        """What SQLite calls."""
        run, nulls = self.run, self.nulls
        reads = [_READS[letter] for letter in self.takes]
        if all(read is None for read in reads):
            if nulls:
                return run
            return lambda *given: None if None in given else run(*given)
        last = reads[-1]

        def call(*given: Any) -> Any:
            if not nulls and None in given:
                return None
            read = [
                value if value is None or (how := reads[at] if at < len(reads) else last) is None else how(value)
                for at, value in enumerate(given)
            ]
            return run(*read)

        return call


_READS: dict[str, Callable[[Any], Any] | None] = {"t": as_text, "n": as_number, "i": as_int, "v": None}


def _bounded(length: int) -> None:
    if length > MAX_TEXT:
        raise failed(1301, f"Result of function was larger than max_allowed_packet ({MAX_TEXT}) - truncated")


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
    _bounded(length)
    missing = length - len(text)
    filling = (fill * (missing // len(fill) + 1))[:missing]
    return filling + text if left else text + filling


def _repeat(text: str, count: int) -> str:
    if count <= 0:
        return ""
    _bounded(len(text.encode("utf-8", "surrogatepass")) * count)
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
        same: Callable[[Any], bool] = lambda value: compare_texts(value, wanted) == 0  # noqa: E731
    else:
        number = as_number(wanted)
        same = lambda value: as_number(value) == number  # noqa: E731
    return next((at for at, value in enumerate(values, start=1) if value is not None and same(value)), 0)


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


# Numbers.


def _round(value: Any, digits: int) -> Any:
    digits = min(max(digits, -30), 30)
    if isinstance(value, int):
        return (
            value if digits >= 0 else int(as_decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, EXACT))
        )
    if isinstance(value, float):
        # MySQL scales, rounds to even, and scales back.
        power = 10.0 ** abs(digits)
        scaled = value * power if digits >= 0 else value / power
        if not math.isfinite(scaled):
            return value
        return round(scaled) / power if digits >= 0 else round(scaled) * power
    return f"{as_decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, EXACT) + 0:f}"


def _truncate(value: Any, digits: int) -> Any:
    digits = min(max(digits, -30), 30)
    if isinstance(value, float):
        power = 10.0 ** abs(digits)
        scaled = value * power if digits >= 0 else value / power
        return (
            (math.trunc(scaled) / power if digits >= 0 else math.trunc(scaled) * power)
            if abs(scaled) < 1e300
            else value
        )
    found = as_decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_DOWN, EXACT)
    return int(found) if isinstance(value, int) else f"{found + 0:f}"


def _whole(how: Callable[[Any], int]) -> Callable[[Any], Any]:
    def run(value: Any) -> Any:
        if isinstance(value, float):
            return float(how(value)) if math.isfinite(value) else value
        return value if isinstance(value, int) else how(as_decimal(value))

    return run


def _real(how: Callable[..., float]) -> Callable[..., float | None]:
    """A function of doubles: NULL where it has no value, an error where that is too great."""

    def run(*given: float) -> float | None:
        try:
            found = how(*map(float, given))
        except (ValueError, ZeroDivisionError):
            return None
        except OverflowError:
            raise failed(1690, "DOUBLE value is out of range") from None
        if isinstance(found, complex) or math.isnan(found):
            return None
        if math.isinf(found):
            raise failed(1690, "DOUBLE value is out of range")
        return found

    return run


def _log(first: float, second: float | None = None) -> float:
    return math.log(first) if second is None else math.log(second) / math.log(first)


def _exact(how: Callable[[Decimal, Decimal], Decimal]) -> Callable[[Any, Any], str | None]:
    def run(one: Any, two: Any) -> str | None:
        try:
            found = how(as_decimal(one), as_decimal(two))
        except ArithmeticError:
            return None
        return f"{found:f}"

    return run


def _divided(one: Any, two: Any, scale: int) -> str | None:
    """A quotient, rounded to ``scale`` digits after the point."""
    divisor = as_decimal(two)
    if not divisor:
        return None
    return decimal_text(EXACT.divide(as_decimal(one), divisor), scale)


def _div(one: Any, two: Any) -> int | None:
    if isinstance(one, float) or isinstance(two, float):
        one, two = as_decimal(as_number(one)), as_decimal(as_number(two))
    divisor = as_decimal(two)
    if not divisor:
        return None
    found = int(EXACT.divide_int(as_decimal(one), divisor)) if abs(as_decimal(one)) < 10**60 else 2**64
    if not -(2**63) <= found < 2**63:
        raise failed(1690, "BIGINT value is out of range")
    return found


def _real_div(one: float, two: float) -> float | None:
    return one / two if two else None


def _not_by_zero(how: Callable[..., Any]) -> Callable[..., Any]:
    def run(*given: Any) -> Any:
        if not as_decimal(given[1]):
            raise failed(1365, "Division by 0")
        return how(*given)

    return run


def _strict_number(value: Any) -> float | int:
    if isinstance(value, str) and not is_number(value):
        raise failed(1292, f"Truncated incorrect DOUBLE value: '{value}'")
    return as_number(value)


def _strict_signed(value: Any) -> int:
    if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?\d+(\.\d*)?\s*", value[:400]):
        raise failed(1292, f"Truncated incorrect INTEGER value: '{value}'")
    return _signed(value)


def _strict_decimal(value: Any, length: int, scale: int) -> str:
    if isinstance(value, str) and not is_number(value):
        if leading_number(value) == "0" and not value.lstrip().startswith("0"):
            raise failed(1366, "Incorrect DECIMAL value: '0' for column '' at row -1")  # as MySQL puts it
        raise failed(1292, f"Truncated incorrect DECIMAL value: '{value}'")
    return _decimal(value, length, scale)


def _mod_real(one: float, two: float) -> float | None:
    return math.fmod(one, two) if two and math.isfinite(one) else None


def _bits(how: Callable[[int, int], int]) -> Callable[[int, int], int]:
    mask = 2**64 - 1

    def run(one: int, two: int) -> int:
        found = how(one & mask, two & mask) & mask
        if found >= 2**63:  # SQLite has no unsigned numbers
            raise failed(1690, "BIGINT UNSIGNED value is out of range")
        return found

    return run


def _decimal(value: Any, length: int, scale: int) -> str:
    found = as_decimal(value)
    greatest = (Decimal(10) ** length - 1).scaleb(-scale)
    return decimal_text(min(max(found, -greatest), greatest), scale)


def _signed(value: Any) -> int:
    if isinstance(value, str):
        found = leading_number(value)
        number = int(re.match(r"[+-]?\d*", found)[0].strip("+") or "0") if found[:1] != "." else 0  # type: ignore[index]
    else:
        number = as_int(value)
    return max(min(number, 2**63 - 1), -(2**63))


def _char(*codes: int | None) -> bytes:
    found = b""
    for code in codes:
        if code is not None:
            number = code & 0xFFFFFFFF
            found += number.to_bytes(max((number.bit_length() + 7) // 8, 1), "big")
    return found


@lru_cache(maxsize=1024)
def _like_pattern(pattern: str, escape: str) -> tuple[tuple[str, ...], bool, bool]:
    """The fixed parts between the ``%``; ``\\uffff`` in them is any one character."""
    parts, current, at = [], "", 0
    while at < len(pattern):
        char = pattern[at]
        if escape and char == escape and at + 1 < len(pattern):
            at += 1
            current += sort_key(pattern[at])
        elif char == "%":
            parts.append(current)
            current = ""
        else:
            current += "\uffff" if char == "_" else sort_key(char)
        at += 1
    return (*parts, current), pattern.startswith("%"), len(parts) > 0


def _part_at(keys: str, part: str, at: int) -> bool:
    return len(keys) >= at + len(part) and all(wanted in ("\uffff", keys[at + i]) for i, wanted in enumerate(part))


def _find_part(keys: str, part: str, start: int, end: int) -> int:
    if "\uffff" not in part:
        return keys.find(part, start, end)
    return next((at for at in range(start, end - len(part) + 1) if _part_at(keys, part, at)), -1)


def _like(text: str, pattern: str, escape: str = "\\") -> int:
    parts, _, open_ended = _like_pattern(pattern, escape)
    keys = sort_key(text)
    if not open_ended:
        return int(len(keys) == len(parts[0]) and _part_at(keys, parts[0], 0))
    first, *middle, last = parts
    end = len(keys) - len(last)
    at = len(first)
    if at > end or not _part_at(keys, first, 0) or not _part_at(keys, last, end):
        return 0
    for part in middle:
        found = _find_part(keys, part, at, end)
        if found < 0:
            return 0
        at = found + len(part)
    return 1


def _regexp_replace(text: str, pattern: str, new: str, start: int = 1, nth: int = 0, mode: str = "") -> str:
    found = matcher(pattern, mode)
    plain = re.sub(r"\\(.)|\$(\d)", lambda m: m[1] if m[1] else f"\0{m[2]}", new)
    count, head, place, shown = 0, max(start - 1, 0), 0, []
    shown.append(text[:head])
    place = head
    for match in found.all(text, head):
        count += 1
        if nth and count != nth:
            continue
        shown.append(text[place : match.start()])
        shown.append(re.sub("\0(\\d)", lambda m, match=match: _group(match, int(m[1])), plain))
        place = match.end()
        _bounded(sum(map(len, shown)))
    return "".join(shown) + text[place:]


def _group(match: re.Match[str], number: int) -> str:
    if number > match.re.groups:
        raise failed(3686, "Index out of bounds in regular expression search.")
    return match[number] or ""


def _regexp_substr(text: str, pattern: str, start: int = 1, nth: int = 1, mode: str = "") -> str | None:
    for count, match in enumerate(matcher(pattern, mode).all(text, max(start - 1, 0)), start=1):
        if count == nth:
            return match[0]
    return None


def _regexp_instr(text: str, pattern: str, start: int = 1, nth: int = 1, after: int = 0, mode: str = "") -> int:
    for count, match in enumerate(matcher(pattern, mode).all(text, max(start - 1, 0)), start=1):
        if count == nth:
            return (match.end() if after else match.start()) + 1
    return 0


def _extreme(how: Callable[..., Any], kind: str) -> Callable[..., Any]:
    keys: dict[str, Callable[[Any], Any]] = {"text": sort_key, "number": as_number, "exact": as_decimal}
    key = keys[kind]
    return lambda *values: how(values, key=key)


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
        "md5": text(lambda v: hashlib.md5(_raw(v)).hexdigest(), 1, 1, "v", "text"),  # noqa: S324 - MySQL's function
        "sha1": text(lambda v: hashlib.sha1(_raw(v)).hexdigest(), 1, 1, "v", "text"),  # noqa: S324
        "sha2": text(_sha2, 2, 2, "vi", "text"),
        "crc32": text(lambda v: zlib.crc32(_raw(v)), 1, 1, "v", "int"),
        "to_base64": text(lambda v: base64.b64encode(_raw(v)).decode(), 1, 1, "v", "text"),
        "from_base64": text(_from_base64, 1, 1, "t", "binary"),
        "soundex": text(_soundex, 1, 1, "t", "text"),
        "like": text(_like, 2, 3, "t", "int", inner=True),
        "like_binary": text(_like_binary, 2, 3, "t", "int", inner=True),
        "regexp_like": text(lambda s, p, m="": int(matcher(p, m).found(s)), 2, 3, "t", "int"),
        "regexp_replace": text(_regexp_replace, 3, 6, "tttiit", "text"),
        "regexp_substr": text(_regexp_substr, 2, 5, "ttiit", "text"),
        "regexp_instr": text(_regexp_instr, 2, 6, "ttiiit", "int"),
        "to_text": text(as_text, 1, 1, "v", "text", inner=True),
        "float_text": text(lambda v: as_text(float(f"{v:.6g}")), 1, 1, "v", "text", inner=True),
        "is_uuid": text(
            lambda s: int(re.fullmatch(r"\{?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\}?", s[:50], re.I) is not None),
            1, 1, "t", "int",
        ),
    }  # fmt: skip


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _like_binary(text: str, pattern: str, escape: str = "\\") -> int:
    """LIKE byte by byte: only what also matches without case can match."""
    if not _like(text, pattern, escape):
        return 0
    written = ""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == escape and at + 1 < len(pattern):
            at += 1
            char = pattern[at]
            written += f"[{char}]" if char in "*?[" else char
        else:
            written += {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(char, char)
        at += 1
    return int(_glob(text, written))


def _glob(text: str, pattern: str) -> bool:
    parts = re.split(r"(?<!\[)\*", pattern)
    expression = [re.sub(r"\[(.)\]", r"\1", part) for part in parts]
    place = 0
    for number, part in enumerate(expression):
        found = text.find(part, place) if number else (0 if text.startswith(part) else -1)
        if "?" in part:
            return True  # one character's case is left to the plain comparison
        if found < 0:
            return False
        place = found + len(part)
    return len(expression) > 1 or place == len(text)


def _numbers() -> dict[str, Function]:
    number = Function
    found = {
        "round2": number(_round, 2, 2, "vi", "double", inner=True),
        "truncate2": number(_truncate, 2, 2, "vi", "double", inner=True),
        "ceil1": number(_whole(math.ceil), 1, 1, "v", "int", inner=True),
        "floor1": number(_whole(math.floor), 1, 1, "v", "int", inner=True),
        "number": number(as_number, 1, 1, "v", "double", inner=True),
        "double": number(lambda v: float(as_number(v)), 1, 1, "v", "double", inner=True),
        "integer": number(as_int, 1, 1, "v", "int", inner=True),
        "signed": number(_signed, 1, 1, "v", "int", inner=True),
        "decimal": number(_decimal, 3, 3, "vii", "double", inner=True),
        "dec_add": number(_exact(EXACT.add), 2, 2, "v", "double", inner=True),
        "dec_sub": number(_exact(EXACT.subtract), 2, 2, "v", "double", inner=True),
        "dec_mul": number(_exact(EXACT.multiply), 2, 2, "v", "double", inner=True),
        "dec_mod": number(_exact(EXACT.remainder), 2, 2, "v", "double", inner=True),
        "dec_neg": number(lambda v: f"{EXACT.minus(as_decimal(v)):f}", 1, 1, "v", "double", inner=True),
        "dec_abs": number(lambda v: f"{abs(as_decimal(v)):f}", 1, 1, "v", "double", inner=True),
        "dec_sign": number(lambda v: (as_decimal(v) > 0) - (as_decimal(v) < 0), 1, 1, "v", "int", inner=True),
        "dec_div": number(_divided, 3, 3, "vvi", "double", inner=True),
        "int_div": number(_div, 2, 2, "v", "int", inner=True),
        "real_div": number(_real_div, 2, 2, "n", "double", inner=True),
        "real_div_strict": number(_not_by_zero(_real_div), 2, 2, "n", "double", inner=True),
        "dec_div_strict": number(_not_by_zero(_divided), 3, 3, "vvi", "double", inner=True),
        "int_div_strict": number(_not_by_zero(_div), 2, 2, "v", "int", inner=True),
        "signed_strict": number(_strict_signed, 1, 1, "v", "int", inner=True),
        "decimal_strict": number(_strict_decimal, 3, 3, "vii", "double", inner=True),
        "number_strict": number(_strict_number, 1, 1, "v", "double", inner=True),
        "mod_real": number(_mod_real, 2, 2, "n", "double", inner=True),
        "bit_and2": number(_bits(int.__and__), 2, 2, "i", "int", inner=True),
        "bit_or2": number(_bits(int.__or__), 2, 2, "i", "int", inner=True),
        "bit_xor2": number(_bits(int.__xor__), 2, 2, "i", "int", inner=True),
        "shift_left": number(_bits(lambda a, b: a << b if b < 64 else 0), 2, 2, "i", "int", inner=True),
        "shift_right": number(_bits(lambda a, b: a >> b if b < 64 else 0), 2, 2, "i", "int", inner=True),
        "bit_count": number(lambda n: (n & (2**64 - 1)).bit_count(), 1, 1, "i", "int"),
        "degrees": number(_real(math.degrees), 1, 1, "n", "double"),
        "radians": number(_real(math.radians), 1, 1, "n", "double"),
        "pi": number(lambda: math.pi, 0, 0, "n", "double"),
        "pow": number(_real(math.pow), 2, 2, "n", "double"),
        "log": number(_real(_log), 1, 2, "n", "double"),
        "log2": number(_real(math.log2), 1, 1, "n", "double"),
        "log10": number(_real(math.log10), 1, 1, "n", "double"),
        "exp": number(_real(math.exp), 1, 1, "n", "double"),
        "sqrt": number(_real(math.sqrt), 1, 1, "n", "double"),
        "atan2": number(_real(math.atan2), 2, 2, "n", "double"),
        "cot": number(_real(lambda x: 1 / math.tan(x)), 1, 1, "n", "double"),
    }
    for name in ("sin", "cos", "tan", "asin", "acos", "atan"):
        found[name] = number(_real(getattr(math, name)), 1, 1, "n", "double")
    for name, how in (("greatest", max), ("least", min)):
        for kind in ("text", "number", "exact"):
            takes = {"text": "t", "number": "n", "exact": "v"}[kind]
            found[f"{name}_{kind}"] = number(_extreme(how, kind), 2, -1, takes, "double", inner=True)
    return found


FUNCTIONS: dict[str, Function] = {**_texts(), **_numbers()}
