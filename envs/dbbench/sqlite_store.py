"""What a column takes in strict mode, and in which form SQLite then holds it; MySQL's errors for what it refuses."""

from __future__ import annotations

import datetime
import math
import re
import struct
from decimal import Decimal
from typing import Any

from envs.dbbench.sqlite_catalog import ColumnDef
from envs.dbbench.sqlite_collation import compare_texts
from envs.dbbench.sqlite_errors import failed
from envs.dbbench.sqlite_types import SqlType
from envs.dbbench.sqlite_values import (
    as_decimal,
    as_number,
    as_text,
    decimal_text,
    double_text,
    format_moment,
    format_span,
    leading_number,
    moment_of,
    span_of,
)

__all__ = ["store", "zero"]

_WORDS = {"int": "integer", "decimal": "decimal", "double": "DOUBLE", "float": "FLOAT", "year": "integer"}
_TEXT_BYTES = {"tinytext": 255, "text": 65535, "mediumtext": 2**24 - 1, "tinyblob": 255, "blob": 65535}


def store(value: Any, source: SqlType, column: ColumnDef, row: int = 1, strict: bool = True) -> Any:
    """A value of an expression of type ``source`` as the column holds it. Raises StatementFailed.

    ``row`` is counted from 1, for MySQL's words; without ``strict`` (INSERT IGNORE) what does not fit is bent.
    """
    if value is None:
        if column.not_null:
            if strict:
                raise failed(1048, f"Column '{column.name}' cannot be null")
            return zero(column.type)
        return None
    kind = column.type
    if source.temporal and kind.numeric:
        value = re.sub(r"\D", "", as_text(value))
    elif source.kind == "double" and kind.kind in ("text", "binary", "json"):
        value = double_text(float(value))
    elif source.kind == "decimal" and not kind.temporal:
        value = decimal_text(as_decimal(value), source.scale) if kind.kind in ("text", "json") else as_decimal(value)
    match kind.kind:
        case "int" | "year":
            return _integer(value, column, row, strict)
        case "decimal":
            return _decimal(value, column, row, strict)
        case "double" | "float":
            return _double(value, column, row, strict)
        case "date" | "datetime":
            return _moment(value, column, row, strict)
        case "time":
            span = span_of(value)
            if span is None:
                if strict:
                    raise failed(
                        1292, f"Incorrect time value: '{as_text(value)}' for column '{column.name}' at row {row}"
                    )
                span = datetime.timedelta()
            return format_span(span)
        case "binary":
            return _bytes(value, column, row, strict)
    return _text(as_text(value), column, row, strict)


def zero(kind: SqlType) -> Any:
    """What a NOT NULL column without a default takes where strictness is off."""
    match kind.kind:
        case "int" | "year":
            return 0
        case "decimal":
            return decimal_text(Decimal(0), kind.scale)
        case "double" | "float":
            return 0.0
        case "date":
            return "0000-00-00"
        case "datetime":
            return "0000-00-00 00:00:00"
        case "time":
            return "00:00:00"
        case "binary":
            return b""
    return kind.values[0] if kind.name == "enum" and kind.values else ""


def _parsed(value: Any, column: ColumnDef, row: int, strict: bool) -> Decimal:
    """A value as a number. Raises for a text that is none, or not only one."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            raise failed(1264, f"Out of range value for column '{column.name}' at row {row}")
        return Decimal(value) if isinstance(value, int) else Decimal(repr(value))
    text = as_text(value)
    found = leading_number(text)
    if strict and (text.strip() != found.strip() or not text.strip()):
        if column.type.kind == "decimal" or (found == "0" and not text.lstrip().startswith(("0", "+0", "-0"))):
            word = _WORDS[column.type.kind]
            raise failed(1366, f"Incorrect {word} value: '{text}' for column '{column.name}' at row {row}")
        raise failed(1265, f"Data truncated for column '{column.name}' at row {row}")
    return as_decimal(found)


def _integer(value: Any, column: ColumnDef, row: int, strict: bool) -> int:
    kind = column.type
    if isinstance(value, int):
        number = value
    elif isinstance(value, float) and math.isfinite(value):
        number = round(value)
    else:
        number = int(_parsed(value, column, row, strict).to_integral_value("ROUND_HALF_UP"))
    low, high = kind.bounds if kind.kind == "int" else (0, 2155)
    if kind.kind == "year" and 0 < number < 100:
        number += 2000 if number < 70 else 1900
    if not low <= number <= high or (kind.kind == "year" and 0 < number < 1901):
        if strict:
            raise failed(1264, f"Out of range value for column '{column.name}' at row {row}")
        number = min(max(number, low), high)
    if number > 2**63 - 1:  # SQLite has no unsigned numbers
        raise failed(1264, f"Out of range value for column '{column.name}' at row {row}")
    return number


def _decimal(value: Any, column: ColumnDef, row: int, strict: bool) -> str:
    kind = column.type
    number = _parsed(value, column, row, strict)
    greatest = (Decimal(10) ** kind.length - 1).scaleb(-kind.scale)
    text = decimal_text(number, kind.scale)
    if abs(Decimal(text)) > greatest or (kind.unsigned and number < 0):
        if strict:
            raise failed(1264, f"Out of range value for column '{column.name}' at row {row}")
        return decimal_text(min(max(number, Decimal(0) if kind.unsigned else -greatest), greatest), kind.scale)
    return text


def _double(value: Any, column: ColumnDef, row: int, strict: bool) -> float:
    number = (
        float(value) if isinstance(value, (int, float)) else float(as_number(str(_parsed(value, column, row, strict))))
    )
    if not math.isfinite(number) or (column.type.kind == "float" and abs(number) > 3.4028235e38):
        raise failed(1264, f"Out of range value for column '{column.name}' at row {row}")
    return struct.unpack("f", struct.pack("f", number))[0] if column.type.kind == "float" else number


def _moment(value: Any, column: ColumnDef, row: int, strict: bool) -> str:
    kind = column.type
    text = as_text(value)
    moment = moment_of(text)
    if moment is None or (kind.name == "timestamp" and not 1970 <= moment.year <= 2038):
        if strict:
            raise failed(1292, f"Incorrect {kind.kind} value: '{text}' for column '{column.name}' at row {row}")
        return str(zero(kind))
    if kind.kind == "date":
        return format_moment(moment)[:10]
    if not kind.scale and moment.microsecond >= 500_000:
        moment += datetime.timedelta(seconds=1)
    return format_moment(moment, kind.scale)


def _text(text: str, column: ColumnDef, row: int, strict: bool) -> str:
    kind = column.type
    if kind.name in ("enum", "set"):
        return _member(text, column, row, strict)
    if kind.name in ("varchar", "char"):
        if kind.name == "char":
            text = text.rstrip(" ")
        if len(text) > kind.length:
            if strict and text[kind.length :].strip(" "):
                raise failed(1406, f"Data too long for column '{column.name}' at row {row}")
            return text[: kind.length]
    elif len(text) * 4 > (most := _TEXT_BYTES.get(kind.name, 2**32 - 1)):
        raw = text.encode("utf-8", "surrogatepass")
        if len(raw) > most:
            if strict:
                raise failed(1406, f"Data too long for column '{column.name}' at row {row}")
            return raw[:most].decode("utf-8", "ignore")
    return text


def _member(text: str, column: ColumnDef, row: int, strict: bool) -> str:
    kind = column.type
    wanted = text.split(",") if kind.name == "set" and text else [text] if kind.name == "enum" else []
    chosen = []
    for item in wanted:
        found = next((value for value in kind.values if compare_texts(value, item.rstrip(" ")) == 0), None)
        if found is None and kind.name == "enum" and item.isdecimal() and 1 <= int(item) <= len(kind.values):
            found = kind.values[int(item) - 1]
        if found is None:
            if strict:
                raise failed(1265, f"Data truncated for column '{column.name}' at row {row}")
            continue
        chosen.append(found)
    if kind.name == "enum":
        return chosen[0] if chosen else ""
    return ",".join(value for value in kind.values if value in chosen)


def _bytes(value: Any, column: ColumnDef, row: int, strict: bool) -> bytes:
    kind = column.type
    raw = value if isinstance(value, bytes) else as_text(value).encode("utf-8", "surrogateescape")
    most = kind.length if kind.name in ("varbinary", "binary") else _TEXT_BYTES.get(kind.name, 2**32 - 1)
    if len(raw) > most:
        if strict:
            raise failed(1406, f"Data too long for column '{column.name}' at row {row}")
        return raw[:most]
    return raw.ljust(kind.length, b"\0") if kind.name == "binary" else raw
