"""`header` and `read` state the same facts of every file, and the facts mean what the standard
says: age, dates, view.
"""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from dicom_bytes import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    UNKNOWN,
    data_set,
    element,
    image,
    item,
    meta,
    padded,
    sequence_end,
    words,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.annotations import acquisition
from hilum.errors import BadData
from hilum.imaging.files import (
    _dicom_age,
    _dicom_facts,
    _dicom_header,
    _dicom_parsing,
    _dicom_tags,
    dicom,
)

STORED = np.arange(48, dtype=np.uint16).reshape(6, 8)

# ------------------------------------------------------------------------------ two ways of reading

TEXTS = [
    b"",
    b"A",
    b"CHEST",
    b"\xdcber",
    b"\xc3\x9cber",
    b"a\\b",
    b"1.5\\1.5",
    b"0,143\\0,143",
    b"041Y",
    b"20200101",
    b"12",
    b" x",
    b"\0\0",
    b"a\x1b$Bx",
    b"PA",
    b"L\\F",
    b"Thorax seitlich",
    b"A^B=C",
    b"ISO_IR 100",
    b"ISO_IR 192",
    b"\\ISO 2022 IR 87",
    b"GB18030",
    b"-3",
    b"1\n2",
    b"\x1f.2",
    b"Z\x7f",
]
TEXT_VRS = [b"LO", b"SH", b"CS", b"UI", b"PN", b"DS", b"IS", b"DA", b"AS", b"UT"]
ODD_VRS = [b"UN", b"US", b"SS", b"OB", b"FD", b"XX", b"??"]
NUMBERS = [words(6), words(8), words(-1), words(1, 2), b"", b"12", words(0x8001)]
OTHERS = [
    0x00080070,
    0x00090010,
    0x00091001,
    0x00290010,
    0x00291010,
    0x00400254,
    0x20500020,
    0x60003000,
    0x7FE00001,
]
TAGS = st.sampled_from([tag for tag in _dicom_tags.WANTED if tag >> 16 != 2] + OTHERS)
SELDOM = st.integers(0, 19).map(lambda drawn: drawn == 0)


@st.composite
def coded(draw, implicit, order):
    """The value of a sequence of up to two items, and whether its length is known."""
    items, unknown = b"", draw(st.booleans())
    for _ in range(draw(st.integers(0, 2))):
        parts = [
            (0x00080100, b"SH", padded(draw(st.sampled_from([b"399348003", b"R-10206"])))),
            (0x00080104, b"LO", padded(draw(st.sampled_from(TEXTS[:6])))),
        ]
        if draw(SELDOM):
            parts.insert(0, (0x00080005, b"CS", b"ISO_IR 192"))
        items += item(
            data_set(parts, implicit=implicit, order=order),
            order=order,
            length=UNKNOWN if draw(st.booleans()) else None,
        )
    return (items + sequence_end(order), UNKNOWN) if unknown else (items, None)


@st.composite
def nested(draw, implicit, order, depth=3):
    """A sequence of unknown length in which others may lie, as a value."""
    items = b""
    for _ in range(draw(st.integers(0, 2))):
        parts = [element(0x00080060, b"CS", b"CR", implicit=implicit, order=order)]
        if depth and draw(st.booleans()):
            value = draw(nested(implicit, order, depth - 1))
            parts.append(
                element(0x00400555, b"SQ", value, implicit=implicit, order=order, length=UNKNOWN)
            )
        items += item(*parts, order=order, length=UNKNOWN if draw(st.booleans()) else None)
    return items + sequence_end(order)


@st.composite
def files(draw):
    """The bytes of a file with any of the wanted elements, written in any way, right or wrong."""
    syntax = draw(st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN]))
    implicit, order = syntax == IMPLICIT, ">" if syntax == BIG_ENDIAN else "<"
    if draw(SELDOM):
        syntax = draw(
            st.sampled_from(
                [
                    IMPLICIT,
                    EXPLICIT,
                    BIG_ENDIAN,
                    None,
                    "1.2.840.113619.5.2",
                    "1.2.840.10008.1.2.4.70",
                ]
            )
        )
    written = {
        tag: element(tag, vr, value, implicit=implicit, order=order)
        for tag, vr, value in image(STORED, 12, order=order)
    }
    for tag in draw(st.lists(TAGS, max_size=12)):
        kind, value, length = (
            _dicom_tags.WANTED.get(tag),
            padded(draw(st.sampled_from(TEXTS))),
            None,
        )
        vr = draw(st.sampled_from(ODD_VRS)) if draw(SELDOM) else draw(st.sampled_from(TEXT_VRS))
        if kind == "code":
            vr, (value, length) = b"SQ", draw(coded(implicit, order))
        elif kind == "number":
            vr, value = vr if vr in ODD_VRS else b"US", draw(st.sampled_from(NUMBERS))
        elif tag >> 16 & 1 and draw(st.booleans()):
            vr, length = draw(st.sampled_from([b"SQ", b"UN"])), UNKNOWN
            value = draw(nested(implicit or (vr == b"UN" and not draw(SELDOM)), order))
        if draw(SELDOM):
            length = len(value) + draw(st.sampled_from([2, 10, 1000]))
        written[tag] = element(
            tag, vr, value, implicit=implicit != draw(SELDOM), order=order, length=length
        )
    tags = sorted(written)
    if draw(SELDOM):
        tags = [*draw(st.permutations(tags)), tags[0]]
    data = bytearray(meta(syntax) + b"".join(written[tag] for tag in tags))
    for _ in range(draw(st.integers(1, 3)) if draw(SELDOM) else 0):
        data[draw(st.integers(132, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(SELDOM):
        del data[draw(st.integers(100, len(data) - 1)) :]
    return bytes(data[132:] if draw(SELDOM) else data)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=files())
def test_headers_are_the_same_by_the_walker_and_by_pydicom_and_in_read(tmp_path, data):
    path = tmp_path / "a"
    path.write_bytes(data)
    facts = _dicom_tags.walked_bytes(data)
    assert _dicom_tags.walked(path) == facts
    header = outcome(dicom.header, path)
    file = outcome(dicom.read, path)
    if file is not None:
        assert header == file.header
    if facts is not None and (theirs := outcome(by_pydicom, path)) is not None:
        assert _dicom_header.header(facts) == theirs


def outcome(verb, path: Path):
    """None where it is refused."""
    try:
        return verb(path)
    except BadData:
        return None


def by_pydicom(path: Path) -> dicom.Header:
    try:
        with _dicom_parsing.quietly():
            return _dicom_header.header(
                _dicom_facts.of_parsed(_dicom_parsing.parsed(path.read_bytes()))
            )
    except Exception as error:
        raise BadData(str(error)) from error


def test_a_disagreement_is_refused_and_says_on_what(tmp_path, monkeypatch):
    path = tmp_path / "a.dcm"
    path.write_bytes(
        meta(EXPLICIT) + data_set(image(STORED, 12, more=[(0x00100020, b"LO", b"P7")]))
    )
    honest = _dicom_tags.walked_bytes
    monkeypatch.setattr(
        _dicom_tags, "walked_bytes", lambda data: {**honest(data), 0x00100020: "P8"}
    )
    with pytest.raises(BadData, match=r"a\.dcm: .*two ways of reading disagree on patient"):
        dicom.read(path)


@pytest.mark.parametrize("implicit", [False, True])
def test_plain_files_are_all_walked(implicit):
    """Else the comparison above would compare little."""
    for text in (text for text in TEXTS if b"\x1b" not in text):
        more = [(tag, b"LO", padded(text)) for tag in (0x00100020, 0x0008103E, 0x00180015)] + [
            (0x00080005, b"CS", b"ISO_IR 100")
        ]
        assert _dicom_tags.walked_bytes(
            meta(IMPLICIT if implicit else EXPLICIT)
            + data_set(image(STORED, 12, more=more), implicit=implicit)
        )


def without_vrs(*elements: bytes) -> bytes:
    return item(*elements, length=UNKNOWN) + sequence_end()


IMAGE = data_set(image(STORED, 12))
ODD_YET_CERTAIN = {
    "text of an unknown VR": meta(EXPLICIT)
    + data_set(image(STORED, 12, more=[(0x00080018, b"UN", b"1.2.3.4\0")])),
    "an unknown sequence of unknown length": meta(EXPLICIT)
    + IMAGE[:-108]
    + element(
        0x30090001,
        b"UN",
        without_vrs(element(0x00080060, b"CS", b"MR", implicit=True)),
        length=UNKNOWN,
    )
    + IMAGE[-108:],
    "implicit where the syntax is explicit": meta(EXPLICIT)
    + data_set(image(STORED, 12), implicit=True),
    "explicit where the syntax is implicit": meta(IMPLICIT) + IMAGE,
    "a private group below that of the meta information": meta(EXPLICIT)
    + element(0x00010001, b"LO", b"AB")
    + IMAGE,
    "sequences in sequences": meta(EXPLICIT)
    + element(
        0x00010001,
        b"SQ",
        without_vrs(element(0x00010002, b"SQ", without_vrs(), length=UNKNOWN)),
        length=UNKNOWN,
    )
    + IMAGE,
}


@pytest.mark.parametrize("form", ODD_YET_CERTAIN)
def test_what_pydicom_reads_with_certainty_is_walked_too(form, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(ODD_YET_CERTAIN[form])
    assert _dicom_tags.walked(path) is not None
    assert dicom.header(path) == by_pydicom(path) == dicom.read(path).header
    assert dicom.header(path).modality == "CR" and dicom.header(path).instance == "1.2.3.4"


def test_an_unknown_sequence_whose_items_have_vrs_is_left_to_pydicom():
    value = item(element(0x00080060, b"CS", b"MR"), length=UNKNOWN) + sequence_end()
    assert not _dicom_tags.walked_bytes(
        meta(EXPLICIT) + element(0x00090001, b"UN", value, length=UNKNOWN) + IMAGE
    )


# ---------------------------------------------------------------------------------------------- age

HEADERS = {  # elements beside an image's: age
    "stated": ({0x00101010: b"041Y"}, 41.0),
    "stated, whatever the birth date": (
        {0x00101010: b"041Y", 0x00100030: b"19000202", 0x00080020: b"20200101"},
        41.0,
    ),
    "birthday on the day": ({0x00100030: b"19800615", 0x00080020: b"20210615"}, 41.0),
    "a day before the birthday": (
        {0x00100030: b"19800616", 0x00080020: b"20210615"},
        pytest.approx(40.997, abs=0.002),
    ),
    "half a year": (
        {0x00100030: b"20200101", 0x00080020: b"20200701"},
        pytest.approx(0.497, abs=0.002),
    ),
    "born on 29 February": ({0x00100030: b"20000229", 0x00080020: b"20010301"}, 1.0),
    "by the series' date": ({0x00100030: b"19800615", 0x00080021: b"20210615"}, 41.0),
    "by the acquisition's date": ({0x00100030: b"19800615", 0x00080022: b"20210615"}, 41.0),
    "by the content's date": ({0x00100030: b"19800615", 0x00080023: b"20210615"}, 41.0),
    "an empty study date": (
        {0x00100030: b"19800615", 0x00080020: b"", 0x00080023: b"20210615"},
        41.0,
    ),
    "an impossible study date": (
        {0x00100030: b"19800615", 0x00080020: b"20219915", 0x00080021: b"20210615"},
        41.0,
    ),
    "with points": ({0x00100030: b"1980.06.15", 0x00080020: b"2021.06.15"}, 41.0),
    "an empty age": ({0x00101010: b"", 0x00100030: b"19800615", 0x00080020: b"20210615"}, 41.0),
    "an age that is none": (
        {0x00101010: b"old ", 0x00100030: b"19800615", 0x00080020: b"20210615"},
        41.0,
    ),
    "an age beyond any": (
        {0x00101010: b"411Y", 0x00100030: b"19800615", 0x00080020: b"20210615"},
        41.0,
    ),
    "an age beyond any, alone": ({0x00101010: b"999Y"}, None),
    "in days": ({0x00101010: b"010D"}, pytest.approx(0.027)),
    "in weeks": ({0x00101010: b"026W"}, pytest.approx(0.498)),
    "in months": ({0x00101010: b"018M"}, 1.5),
    "without unit": ({0x00101010: b"41"}, 41.0),
    "born after the study": ({0x00100030: b"20220615", 0x00080020: b"20210615"}, None),
    "too old": ({0x00100030: b"18000615", 0x00080020: b"20210615"}, None),
    "a filler for a birth date": ({0x00100030: b"19000101", 0x00080020: b"20190416"}, None),
    "no study date": ({0x00100030: b"19800615"}, None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize("case", HEADERS)
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_age_by_the_patients_age_or_else_by_two_dates(case, syntax, tmp_path):
    elements, years = HEADERS[case]
    more = [
        (tag, b"AS" if tag == 0x00101010 else b"DA", padded(value))
        for tag, value in elements.items()
    ]
    (tmp_path / "a").write_bytes(
        meta(syntax) + data_set(image(STORED, 12, more=more), implicit=syntax == IMPLICIT)
    )
    assert (
        dicom.header(tmp_path / "a").age_years == years
        and dicom.read(tmp_path / "a").header.age_years == years
    )


@settings(max_examples=300, deadline=None)
@given(
    birth=st.dates(date(1900, 1, 2), date(2100, 1, 1)),
    study=st.dates(date(1900, 1, 2), date(2100, 1, 1)),
)
def test_an_age_between_two_dates_is_within_a_day_of_the_days_between_and_never_impossible(
    birth, study
):
    age, days = _dicom_age.years(None, birth, study), (study - birth).days
    if age is None:
        assert days < 0 or days / 365.25 > 119.9
    else:
        assert 0 <= age <= 120 and abs(age - days / 365.25) < 0.01


def test_dates_and_the_numbers_of_study_and_place_are_in_the_header(tmp_path):
    more = [
        (0x00080020, b"DA", b"20210615"),
        (0x00080050, b"SH", b"A-7 "),
        (0x00080080, b"LO", b"Clinic"),
    ]
    (tmp_path / "a").write_bytes(meta(EXPLICIT) + data_set(image(STORED, 12, more=more)))
    header = dicom.header(tmp_path / "a")
    assert (header.study_date, header.accession, header.institution) == (
        date(2021, 6, 15),
        "A-7",
        "Clinic",
    )


def test_a_body_part_may_be_coded(tmp_path):
    code = element(
        0x00082218,
        b"SQ",
        item(
            element(0x00080100, b"SH", b"51185008"),
            element(0x00080102, b"SH", b"SCT "),
            element(0x00080104, b"LO", b"Chest "),
        ),
    )
    elements = image(STORED, 12)
    (tmp_path / "a").write_bytes(
        meta(EXPLICIT) + data_set(elements[:3]) + code + data_set(elements[3:])
    )
    assert (
        dicom.header(tmp_path / "a").body_part == "Chest"
        and dicom.read(tmp_path / "a").header.body_part == "Chest"
    )


# --------------------------------------------------------------------------------------------- view


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("PA", "PA"),
        ("p.a.", "PA"),
        ("P.-A.", "PA"),
        ("p/a", "PA"),
        ("Thorax p.a. stehend", "PA"),
        ("Thorax a.p. liegend", "AP"),
        ("CHEST_AP_PORTABLE", "AP"),
        ("Postero-Anterior", "PA"),
        ("postero anterior", "PA"),
        ("Thorax postéro-antérieur", "PA"),
        ("incidence antéro-postérieure", "AP"),
        ("Tórax posteroanterior", "PA"),
        ("Rx tórax antero-posterior", "AP"),
        ("dorso-ventral", "PA"),
        ("ventrodorsaler Strahlengang", "AP"),
        ("Thorax seitlich", "LATERAL"),
        ("Thorax seitl.", "LATERAL"),
        ("Poumons de profil", "LATERAL"),
        ("cliché latéral gauche", "LATERAL"),
        ("Tórax perfil", "LATERAL"),
        ("Tórax lateral", "LATERAL"),
        ("torace latero-laterale", "LATERAL"),
        ("LEFT LATERAL", "LATERAL"),
        ("LLAT", "LATERAL"),
        ("Chest PA frontal", "PA"),
        ("Torso lateral", "LATERAL"),
        ("Thorax face et profil", None),
        ("frente y perfil", None),
        ("Thorax p.a. und seitlich", None),
        ("PA/LAT", None),
        ("AP/PA", "FRONTAL"),
        ("Thorax de face", "FRONTAL"),
        ("Thorax in 2 Ebenen", None),
        ("frontal", "FRONTAL"),
        ("left lateral decubitus", "DECUBITUS"),
        ("LLD", "DECUBITUS"),
        ("AP LATERAL DECUBITUS", "DECUBITUS"),
        ("bilateral", None),
        ("PAPER MAP", None),
        ("", None),
        ("Low dose profile", None),
    ],
)
def test_a_view_is_found_in_the_words_of_several_languages(text, view):
    assert acquisition.view_in_description(text) == view


@pytest.mark.parametrize(
    ("position", "view"),
    [
        ("PA", "PA"),
        ("AP", "AP"),
        ("LL", "LATERAL"),
        ("RL", "LATERAL"),
        ("LLD", "DECUBITUS"),
        ("RLD", "DECUBITUS"),
        ("LLO", "OBLIQUE"),
        ("ap ", "AP"),
    ],
)
def test_defined_terms_of_view_position(position, view, tmp_path):
    (tmp_path / "a").write_bytes(
        meta(EXPLICIT)
        + data_set(image(STORED, 12, more=[(0x00185101, b"CS", padded(position.encode()))]))
    )
    assert dicom.header(tmp_path / "a").view == view


def test_words_beside_ascii_are_read_by_the_files_character_set(tmp_path):
    for charset, codec in (("ISO_IR 100", "latin-1"), ("ISO_IR 192", "utf-8")):
        more = [
            (0x00080005, b"CS", padded(charset.encode())),
            (0x0008103E, b"LO", padded("cliché postéro-antérieur".encode(codec))),
        ]
        (tmp_path / "a").write_bytes(meta(EXPLICIT) + data_set(image(STORED, 12, more=more)))
        assert dicom.header(tmp_path / "a").view == "PA"
