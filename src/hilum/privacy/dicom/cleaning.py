"""Carry out the profile on one data set: remove, empty, replace, map UIDs, move dates.

What the table does not list is treated by its kind, for a name may stand anywhere: private and
unknown elements go, and so do groups 50xx (curves) and 60xx (overlays) as a whole; UIDs that are
not registered are mapped, so that references lead to the new objects; free text is replaced; and
any other text that holds one of the file's identifiers is emptied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hilum.privacy.dicom import dates, words
from hilum.privacy.dicom.identifiers import Identifiers, registered
from hilum.privacy.dicom.keyed import Keyed
from hilum.privacy.dicom.profile import NEVER_SHIFTED, Action, Dates, Options

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

Account = Counter[tuple[str, str]]  # tag with keyword, what was done: how often

DUMMY = "REMOVED"
_DUMMIES = {
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "UR": "about:blank",
}
_PERSON = (0x00100010, 0x00100020)  # name and ID of the patient: one pseudonym
_AGE, _OLDEST = 0x00101010, 89  # older people are few enough to be found by their age
_NUMBERS = frozenset(("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"))
_FREE = frozenset(("LT", "ST", "UT"))
_SCRUBBED = frozenset(("SH", "LO", "UC", "CS", "IS", "AE", "UR", "AS", "LT", "ST", "UT", "PN"))
_BYTES = frozenset(("OB", "OW", "UN"))
_BYTES_KEPT = frozenset(  # tables of grey and colour, the coding of frames
    (
        *(0x00280000 | number for number in (0x1201, 0x1202, 0x1203, 0x1221, 0x1222, 0x1223)),
        *(0x00283006, 0x00281408, 0x7FE00001, 0x7FE00002),
    )
)
# Class UIDs say what an object is; manufacturers have their own.
_CLASSES = frozenset((0x00080016, 0x00081150, 0x0008115A, 0x00020002, 0x00041510))
_OF_CODES = frozenset((0x00080100, 0x00080102, 0x00080104))  # may not be empty
_REPEATING = (0x50, 0x60)  # high bytes of the groups of curves and overlays
_LAST_GROUP = 0x7FE0
_GONE_UNLISTED = frozenset(("AE", "UR", "PN"))


@dataclass
class Cleaner:
    """The cleaning of one data set and of all its sequences."""

    keyed: Keyed
    options: Options
    actions: Mapping[int, Action]
    identifiers: Identifiers
    shift_days: int
    account: Account = field(default_factory=Counter)
    # Days that were written in place of others.
    dates: set[str] = field(default_factory=lambda: {_DUMMIES["DA"]})

    def clean(self, dataset: Dataset, *, strictly: bool = False) -> None:
        """Clean a data set in place; `strictly`: no text of it may stay."""
        for tag in list(dataset.keys()):
            group, number = int(tag) >> 16, int(tag) & 0xFFFF
            foreign = group & 1 or group >> 8 in _REPEATING or not 8 <= group <= _LAST_GROUP
            if number == 0 or foreign:
                if number:
                    self._note(tag, "", Action.REMOVE)
                del dataset[tag]
                continue
            element = dataset[tag]
            if element.VR == "UN" or not element.keyword:
                self._remove(dataset, element)
            else:
                self._clean_element(dataset, element, strictly)

    def _clean_element(self, dataset: Dataset, element: DataElement, strictly: bool) -> None:
        tag, vr = int(element.tag), element.VR
        action = self.actions.get(tag)
        if tag in _PERSON:
            self._set(element, self.keyed.patient(str(element.value or "").strip(" \0")), "new ID")
        elif vr == "UI":
            self._map_uids(element, keep=action is Action.KEEP or tag in _CLASSES)
        elif vr in ("DA", "DT", "TM"):
            self._move(dataset, element, action)
        elif vr == "SQ":
            self._clean_items(dataset, element, action, strictly)
        elif action is Action.REMOVE:
            self._remove(dataset, element)
        elif action is Action.EMPTY:
            self._set(element, None, Action.EMPTY)
        elif action is Action.REPLACE:
            self._replace(element)
        elif action is Action.CLEAN:
            self._keep_words(dataset, element)
        else:
            self._clean_kept(dataset, element, action, strictly)

    def _clean_kept(
        self, dataset: Dataset, element: DataElement, action: Action | None, strictly: bool
    ) -> None:
        """Clean an element that the table does not list, or that an option keeps."""
        tag, vr = int(element.tag), element.VR
        if vr in _BYTES:
            if tag not in _BYTES_KEPT:
                self._remove(dataset, element)
        elif vr not in _SCRUBBED or not element.value:
            return
        elif action is None and vr in _GONE_UNLISTED:
            self._remove(dataset, element)
        elif (action is None and vr in _FREE) or strictly:
            self._replace(element)
        elif vr == "IS":
            if self.identifiers.within(_text(element)):
                self._replace(element)
        elif self.identifiers.within(_text(element), coded=vr == "CS"):
            if tag in _OF_CODES:
                self._replace(element)
            else:
                self._set(element, None, Action.EMPTY)
        elif tag == _AGE:
            self._set(element, _capped(str(element.value)), None)

    def _clean_items(
        self, dataset: Dataset, element: DataElement, action: Action | None, strictly: bool
    ) -> None:
        if action is Action.REMOVE:
            self._remove(dataset, element)
        elif action is Action.EMPTY:
            self._set(element, [], Action.EMPTY)
        else:
            for item in element.value or ():
                self.clean(item, strictly=strictly or action is Action.REPLACE)

    def _map_uids(self, element: DataElement, *, keep: bool) -> None:
        value = element.value
        if keep or not value:
            return
        several = not isinstance(value, str)
        new = [self._uid(str(one)) for one in (value if several else (value,))]
        if new != (list(value) if several else [value]):
            self._set(element, new if several else new[0], Action.UID)

    def _uid(self, original: str) -> str:
        return original if registered(original) else self.keyed.uid(original)

    def _move(self, dataset: Dataset, element: DataElement, action: Action | None) -> None:
        """Move a date, or take it away by the table; a time of day stays with its date."""
        tag, vr = int(element.tag), element.VR
        if not element.value:
            return
        if self.options.dates is Dates.SHIFTED and tag not in NEVER_SHIFTED:
            if vr == "TM":
                return
            values = element.value if not isinstance(element.value, str) else [element.value]
            moved = [dates.shifted(str(one), vr, self.shift_days) for one in values]
            whole = [one for one in moved if one is not None]
            self.dates.update(one[:8] for one in whole)
            new = whole if len(whole) > 1 else "".join(whole)
            self._set(element, new or None, "shifted" if len(whole) == len(moved) else Action.EMPTY)
        elif action is Action.EMPTY:
            self._set(element, None, Action.EMPTY)
        elif action is Action.REPLACE:
            self._replace(element)
        else:
            self._remove(dataset, element)

    def _keep_words(self, dataset: Dataset, element: DataElement) -> None:
        kept = words.cleaned(_text(element))
        if not kept or self.identifiers.within(kept):
            self._remove(dataset, element)
        else:
            self._set(element, kept[:64], Action.CLEAN)

    def _replace(self, element: DataElement) -> None:
        vr = element.VR
        if vr in _NUMBERS:
            self._set(element, 0, Action.REPLACE)
        elif vr in _BYTES:
            self._set(element, b"\0\0", Action.REPLACE)
        else:
            self._set(element, _DUMMIES.get(vr, DUMMY), Action.REPLACE)

    def _set(self, element: DataElement, value: object, done: str | None) -> None:
        if done and (element.value or value):
            self._note(int(element.tag), element.keyword, done)
        element.value = value

    def _remove(self, dataset: Dataset, element: DataElement) -> None:
        self._note(int(element.tag), element.keyword, Action.REMOVE)
        del dataset[element.tag]

    def _note(self, tag: int, keyword: str, done: str) -> None:
        group = tag >> 16
        shown = f"({group:04X},{tag & 0xFFFF:04X}) {keyword}".rstrip()
        if group & 1:  # the numbers of private elements differ from file to file
            shown = f"({group:04X},....) private"
        elif group >> 8 in _REPEATING:
            shown = f"({group >> 8:02X}xx,....) {'curve' if group >> 8 == 0x50 else 'overlay'}"
        self.account[shown, str(done)] += 1


def _text(element: DataElement) -> str:
    value = element.value
    several = not isinstance(value, str) and hasattr(value, "__iter__")
    return " ".join(map(str, value)) if several else str(value)


def _capped(age: str) -> str:
    years = age[:3]
    old = age.endswith("Y") and years.isdigit() and int(years) > _OLDEST
    return f"{_OLDEST + 1:03}Y" if old else age
