"""Names of drifting gear: whose it is, which one, and the state of its battery, which changes all the time.

Buoys on nets and lines carry AIS transmitters that put the battery into the name: `ZSY06159-32-85%` is buoy
32 of the boat ZSY06159 at 85 %; `BINHAIYU15086-59_7.9` and `SUDONGTAIYU15099-8V2` tell volts (8V2 is 8.2 V).
Others are called `NET MARK` or `BOUY`, or by their battery alone (`7V`): gear, but nobody's in particular.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

MAX_VOLTS = 30.0
MAX_PERCENT = 100.0

_LABELS = ("SIM ", "canary:")  # in front of names that are not observed
_SEPARATORS = "-_ #&/:;,.*+=|@"
_SEP = f"[{_SEPARATORS}]"
_NUMBER = r"(?P<value>\d{1,3}(?:[.,]\d{1,2})?)"
_BEFORE = rf"^(?P<stem>.*?)(?:(?:^|{_SEP}+|(?<=[A-Z]))(?:BAT(?:T(?:ERY)?)?|PWR|POWER)?{_SEP}*)"
_PERCENT = re.compile(rf"{_BEFORE}{_NUMBER} ?(?:%|PCT|PERCENT)$")
_VOLTS = re.compile(rf"{_BEFORE}(?:{_NUMBER} ?V(?:OLTS?)?|(?P<whole>\d{{1,2}})V(?P<tenth>\d))$")
_V_FIRST = re.compile(rf"^(?P<stem>.*?)(?:^|{_SEP}+)V ?{_NUMBER}$")
_DECIMAL = re.compile(rf"^(?P<stem>.*?)(?:^|{_SEP}+)(?P<value>\d{{1,2}}[.,]\d)$")
_UNIT_LOST = re.compile(rf"^(?P<stem>[A-Z][A-Z ]+\d{{4,}}{_SEP}+\d{{1,3}}){_SEP}+(?P<value>\d{{1,3}})$")

_WORD = (
    r"(?:NET[- _]?MARK(?:ER)?S?|(?:FISH(?:ING)?|DRIFT|GILL)[- ]?NETS?|NET[- ]?B(?:UO|OU)YS?|B(?:UO|OU)YS?"
    r"|(?:FISHING ?)?GEAR|NETS?)"
)
_WITH_WORD = re.compile(rf"^(?P<parent>(?:.*{_SEP})?){_WORD}{_SEP}*(?P<index>\d{{0,4}}[A-Z]?)$")
_INDEXED = re.compile(rf"^(?P<parent>.*\d){_SEP}+(?P<index>\d{{1,3}}[A-Z]?)$")
_LICENCE = re.compile(rf"^[A-Z]*(?: [A-Z]+)* ?\d{{3,}}(?:{_SEP}+\d{{1,3}}[A-Z]?)?$")
_BOAT_AND_INDEX = re.compile(r"^[A-Z]{2,}(?: [A-Z]+)* ?\d{4,} ?[-_#] ?\d{1,3}$")
_HINT = re.compile(
    rf"%|PCT|PERCENT|\dV|V ?\d|(?:^|{_SEP})\d{{1,2}}[.,]\d$|NET|B(?:UO|OU)Y|GEAR|\d{{4}}{_SEP}+\d"
)  # each name of gear has one of these, few names of ships have


@dataclass(frozen=True, slots=True, kw_only=True)
class GearName:
    """The parts of a name of a piece of gear; None where it lacks one.

    `identity` is the parent and the index without the battery, None where the name is nobody's in particular;
    `battery` is the number as transmitted with its unit (`%` or `V`), or no unit where that was lost.
    """

    identity: str | None
    parent: str | None
    index: str | None
    battery: str | None


@lru_cache(maxsize=16_384)
def gear_name(name: str | None) -> GearName | None:
    """Read a name as it was transmitted; None for one that is not the name of drifting gear.

    Case, spaces around separators, separators themselves and leading zeros of the index make no difference.
    """
    label, text = _label(name or "")
    text = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).upper()).strip(" @")
    if not _HINT.search(text):
        return None
    stem, battery, is_certain = _battery(text)
    worded = _WITH_WORD.match(stem)
    form = _LICENCE if battery else _BOAT_AND_INDEX
    if not (worded or is_certain or form.match(stem) or (battery and not stem)):
        return None
    indexed = worded or _INDEXED.match(stem)
    parent = re.sub(_SEP, "", indexed["parent"] if indexed else stem) or None
    index = re.sub(r"^0+(?=\d)", "", indexed["index"]) or None if indexed else None
    identity = None
    if parent and _names_one_boat(parent, index, is_worded=bool(worded)):
        identity = label + parent + (f"-{index}" if index else "")
    return GearName(identity=identity, parent=parent, index=index, battery=battery)


def _label(name: str) -> tuple[str, str]:
    for label in _LABELS:
        if name.startswith(label):
            return label, name[len(label) :]
    return "", name


def _battery(text: str) -> tuple[str, str | None, bool]:
    """Split a name into stem, battery, and whether only gear has such a battery."""
    if (match := _PERCENT.match(text)) and _value(match["value"]) <= MAX_PERCENT:
        return _stem(match), match["value"].replace(",", ".") + "%", True
    if match := _VOLTS.match(text):
        value = match["value"] or f"{match['whole']}.{match['tenth']}"
        at = max(match.start("value"), match.start("whole"))
        if _value(value) <= MAX_VOLTS:  # behind a letter it may be a name: U2V
            return _stem(match), value.replace(",", ".") + "V", not text[:at][-1:].isalpha()
    for pattern, unit in ((_V_FIRST, "V"), (_DECIMAL, ""), (_UNIT_LOST, "")):
        if match := pattern.match(text):
            max_value = MAX_PERCENT if pattern is _UNIT_LOST else MAX_VOLTS
            if _value(match["value"]) <= max_value:
                return _stem(match), match["value"].replace(",", ".") + unit, False
    return text.strip(_SEPARATORS), None, False


def _stem(match: re.Match[str]) -> str:
    return match["stem"].strip(_SEPARATORS)


def _value(text: str) -> float:
    return float(text.replace(",", "."))


def _names_one_boat(parent: str, index: str | None, *, is_worded: bool) -> bool:
    """Tell whether a parent names one boat: it has a number, and is more than a common word."""
    digits = sum(char.isdigit() for char in parent)
    if is_worded:
        return digits >= 3
    if any(char.isalpha() for char in parent):
        return digits > 0 or index is not None
    return digits >= 4 and index is not None  # without an index it would look like an MMSI
