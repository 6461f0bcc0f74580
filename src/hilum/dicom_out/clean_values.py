"""Clean the values of a header that was written by anyone, by their value representation (VR).

A value that its VR does not allow would make an object of its own invalid, and may be hostile:
control characters, another's backslashes, a date that is none. PS3.5 6.2 says what each VR allows.
A value of text that is too long is cut, but never one that identifies: cut, it could be another
patient's.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

LONGEST = {"SH": 16, "LO": 64, "PN": 64, "CS": 16, "ST": 1024, "LT": 10240}
_DATE = re.compile(r"(\d{4})[.]?(\d\d)[.]?(\d\d)")  # with dots: ACR-NEMA
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?)?([.]\d{1,6})?")
_AGE = re.compile(r"\d{3}[DWMY]")
_DECIMAL = re.compile(r"[+-]?(\d+[.]?\d*|[.]\d+)([eE][+-]?\d+)?")
_CODE_STRING = re.compile(r"[A-Z0-9 _]{1,16}")
_UID = re.compile(r"[0-9]+([.][0-9]+)+")
_LONGEST_UID = 64


def cleaned(value: str, vr: str, *, whole: bool = False) -> str:
    """Return a value as its VR allows it; "" where nothing valid is left.

    With `whole` a value that is too long stays as it is.
    """
    value = printable(value, lines=vr in ("ST", "LT", "UT"))
    if vr in _CHECKS:
        return _CHECKS[vr](value)
    longest = LONGEST.get(vr)
    return value if whole or longest is None or vr == "PN" else value[:longest].strip()


def printable(value: str, *, lines: bool = False) -> str:
    """Return a text without control characters; without `lines` also without backslashes."""
    allowed = "\r\n" if lines else ""
    shown = (" " if one not in allowed and _is_control(one) else one for one in value)
    text = "".join(shown).strip()
    return text if lines else text.replace("\\", "/")


def _is_control(character: str) -> bool:
    # Joiners and directions of Arabic (Cf) and the wide space of Japanese (Zs) belong to names.
    return character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def is_uid(value: str) -> bool:
    """Return whether a text is a UID (PS3.5 9.1), or would be but for leading zeros.

    Images with such UIDs are in archives, and what refers to them must repeat them.
    """
    return len(value) <= _LONGEST_UID and bool(_UID.fullmatch(value))


def _date(value: str) -> str:
    found = _DATE.fullmatch(value)
    if not found:
        return ""
    text = "".join(found.groups())
    try:
        datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return ""
    return text


def _time(value: str) -> str:
    text = value.replace(":", "")  # with colons: ACR-NEMA
    return text if _TIME.fullmatch(text) and ("." not in text or len(text) > 6) else ""


def _age(value: str) -> str:
    return value if _AGE.fullmatch(value) else ""


def _decimal(value: str) -> str:
    return value if len(value) <= 16 and _DECIMAL.fullmatch(value) else ""


def _code_string(value: str) -> str:
    return value if _CODE_STRING.fullmatch(value) else ""


def _uid(value: str) -> str:
    return value if is_uid(value) else ""


_CHECKS = {
    "DA": _date,
    "TM": _time,
    "AS": _age,
    "DS": _decimal,
    "CS": _code_string,
    "UI": _uid,
}
