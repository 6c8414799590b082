"""MySQL's functions on numbers, for SQLite to call. Decimals come and go as texts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

from envs.dbbench.sqlite_collation import sort_key
from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_function import Function
from envs.dbbench.sqlite_types import EXACT
from envs.dbbench.sqlite_values import as_decimal, as_int, as_number, decimal_text, is_number, leading_number

__all__ = ["NUMBER_FUNCTIONS"]


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
        return found if found < 2**63 else found - 2**64  # SQLite has no unsigned numbers; the type says what it is

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


def _extreme(how: Callable[..., Any], kind: str) -> Callable[..., Any]:
    keys: dict[str, Callable[[Any], Any]] = {"text": sort_key, "number": as_number, "exact": as_decimal}
    key = keys[kind]
    return lambda *values: how(values, key=key)


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


NUMBER_FUNCTIONS: dict[str, Function] = _numbers()
