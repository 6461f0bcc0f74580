"""The journal of corrections: append-only, whole after a kill, one writer at a time for each
subject, and damage is reported and never passed over.
"""

import contextlib
import hashlib
import os
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.robustness import killed_saves
from hilum.dataset.corrections import Correction
from hilum.errors import BadData, CannotWrite, Damaged, HilumError, NotFound
from hilum.revisions import changes, mask_store
from hilum.revisions.changes import (
    Correct,
    DecideIssue,
    Read,
    RemoveMask,
    SetLabel,
    SetMask,
    issue_key,
)
from hilum.revisions.journal import FILE, Journal, Stale
from hilum.revisions.state import State

LABEL = SetLabel("set/a", "tuberculosis", "present")
OTHER = SetLabel("set/a", "tuberculosis", "absent")
MIRROR = Correction("set/a", "mirror")


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path / "annotations") as opened:
        yield opened


def labels(height: int = 30, width: int = 20) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[5:20, 2:8], mask[5:20, 12:18], mask[:3] = 1, 2, 255
    return mask


def edit(path, statement: str) -> None:
    """Change a journal as somebody with an SQLite tool would."""
    with sqlite3.connect(path) as connection:
        connection.executescript(f"DROP TRIGGER no_UPDATE; DROP TRIGGER no_DELETE; {statement}")
        for verb in ("UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER no_{verb} BEFORE {verb} ON revisions BEGIN "
                "SELECT RAISE(ABORT, 'revisions are only appended'); END"
            )
    connection.close()


# ------------------------------------------------------------------------------------- appending


def test_a_revision_says_who_when_what_and_what_was_before(journal):
    first = journal.append(LABEL, author="Ann", expected=0, reason="cavity", was="absent")
    second = journal.append(OTHER, author="Bob", expected=1)
    assert (first.number, first.author, first.reason, first.was) == (1, "Ann", "cavity", "absent")
    assert first.time.endswith("+00:00") and (first.before, second.before) == (0, 1)
    assert journal.revisions() == [first, second] and journal.last == 2
    assert journal.latest(LABEL.subject("Ann")) == second and journal.revision(1) == first


def test_it_is_the_same_when_it_is_opened_again(tmp_path):
    with Journal.open(tmp_path) as journal:
        made = journal.append(LABEL, author="Ann", expected=0)
    with Journal.open(tmp_path, create=False, read_only=True) as again:
        assert again.revisions() == [made]
        again.verify()
        with pytest.raises(CannotWrite, match="reading only"):
            again.append(OTHER, author="Ann", expected=1)
        with pytest.raises(CannotWrite, match="reading only"):
            again.put_mask(labels())


def test_the_second_of_two_who_change_one_cell_learns_what_stands_and_nothing_is_lost(journal):
    first = journal.append(LABEL, author="Ann", expected=0)
    with pytest.raises(Stale, match="revision 1 by Ann") as stale:
        journal.append(OTHER, author="Bob", expected=0)
    assert stale.value.current == first and journal.last == 1
    assert journal.append(OTHER, author="Bob", expected=stale.value.current.number).number == 2


def test_two_cells_do_not_wait_for_each_other(journal):
    journal.append(LABEL, author="Ann", expected=0)
    journal.append(replace(LABEL, concept="consolidation"), author="Bob", expected=0)
    journal.append(Read("set/a", "tuberculosis", "absent"), author="Ann", expected=0)
    journal.append(Read("set/a", "tuberculosis", "present"), author="Bob", expected=0)
    assert journal.last == 4


def test_of_many_writers_at_once_one_wins_each_cell_and_every_other_is_refused(tmp_path):
    folder, cells, writers = tmp_path / "annotations", 5, 6
    start = threading.Barrier(writers)

    def write(author: int) -> list[int]:
        """Try to be the first at each cell, with a connection of one's own."""
        refused = []
        with Journal.open(folder) as journal:
            start.wait()
            for cell in range(cells):
                try:
                    change = replace(LABEL, image_id=f"set/{cell}")
                    journal.append(change, author=f"Reader {author}", expected=0)
                except Stale:
                    refused.append(cell)
        return refused

    with ThreadPoolExecutor(writers) as pool:
        refused = list(pool.map(write, range(writers)))
    with Journal.open(folder) as journal:
        journal.verify()
        assert [one.change.image_id for one in journal.revisions()].sort() is None
        assert journal.last == cells and sum(map(len, refused)) == cells * (writers - 1)


def test_several_changes_are_written_all_or_none(journal):
    journal.append(LABEL, author="Ann", expected=0)
    wanted = [(replace(LABEL, image_id=f"set/{n}"), 0) for n in range(3)]
    with pytest.raises(Stale):
        journal.append_all([*wanted, (OTHER, 0)], author="Bob")
    assert journal.last == 1
    assert [one.number for one in journal.append_all(wanted, author="Bob")] == [2, 3, 4]


def test_undo_appends_what_stood_before_and_can_be_undone(journal):
    journal.append(LABEL, author="Ann", expected=0)
    journal.append(OTHER, author="Bob", expected=1)
    undone = journal.undo(2, "Ann", "misread")
    assert (undone.change, undone.undoes, undone.number) == (LABEL, 2, 3)
    assert journal.undo(3, "Bob").change == OTHER
    with pytest.raises(Stale):
        journal.undo(1, "Ann")  # a later one stands
    with pytest.raises(NotFound, match="no revision 9; the last one is 4"):
        journal.undo(9, "Ann")


@pytest.mark.parametrize(
    "change",
    [
        LABEL,
        DecideIssue(issue_key("mask-empty", "set/a", None), "dismissed", "fine"),
        Correct("set/a", (MIRROR,)),
        Read("set/a", "tuberculosis", "absent"),
    ],
    ids=lambda change: change.kind,
)
def test_undo_of_the_first_change_takes_a_subject_back_to_the_data(journal, change):
    made = journal.append(change, author="Ann", expected=0)
    assert State.of(journal).standing == (made,)
    journal.undo(1, "Ann")
    state = State.of(journal)
    assert not state.standing and not state.corrections()
    assert state.expected(change.subject("Ann")) == 2


def test_a_reading_is_undone_by_its_author_alone(journal):
    journal.append(Read("set/a", "tuberculosis", "absent"), author="Ann", expected=0)
    with pytest.raises(HilumError, match="reading of Ann, who alone"):
        journal.undo(1, "Bob")


def test_revisions_of_an_image_are_found_also_as_the_second_of_a_pair(journal):
    pair = DecideIssue(issue_key("duplicate-file", "set/b|%", "set/a"), "accepted")
    journal.append_all([(LABEL, 0), (pair, 0), (replace(LABEL, image_id="set/c"), 0)], author="Ann")
    assert [one.number for one in journal.revisions(image_id="set/a")] == [1, 2]
    assert [one.number for one in journal.revisions(image_id="set/b|%")] == [2]
    assert [one.number for one in journal.revisions(1, until=2)] == [2]


# ------------------------------------------------------------------------------------------ masks


def test_a_mask_comes_back_to_the_pixel_and_is_kept_once(journal):
    digest = journal.put_mask(labels())
    assert journal.put_mask(labels()) == digest
    assert np.array_equal(journal.mask(digest), labels())
    path = journal.masks.path(digest)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest == path.stem
    assert len(list(path.parent.iterdir())) == 1
    journal.append(SetMask("set/a", digest), author="Ann", expected=0)
    journal.append(RemoveMask("set/a"), author="Ann", expected=1)
    assert not State.of(journal).masks and State.of(journal, until=1).masks


def test_a_mask_that_was_not_put_is_not_set(journal):
    with pytest.raises(NotFound, match="put it there first"):
        journal.append(SetMask("set/a", "0" * 64), author="Ann", expected=0)
    assert journal.last == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((4, 4), np.uint8), "marks no lung"),
        (np.full((4, 4), 7, np.uint8), "holds the values \\[7\\]"),
        (np.ones((4, 4), np.float32), "expected uint8"),
        (np.ones((4, 4, 3), np.uint8), "expected uint8"),
        (np.ones((0, 4), np.uint8), "has 0 pixels"),
    ],
)
def test_what_is_no_label_map_is_refused(journal, wrong, said):
    with pytest.raises(BadData, match=said):
        journal.put_mask(wrong)
    assert not (journal.folder / "masks").exists()


def test_a_mask_from_elsewhere_is_decoded_within_bounds():
    import imagecodecs

    good = imagecodecs.png_encode(labels())
    assert np.array_equal(mask_store.decoded(good), labels())
    huge = bytearray(good)
    huge[16:24] = (60_000).to_bytes(4) * 2  # the header states 3.6 thousand million pixels
    for data, said in (
        (bytes(huge), "pixels"),
        (good[:-30], "cut short|broken"),
        (b"GIF89a" + good, "."),
        (imagecodecs.jpeg_encode(labels()), "expected a grey PNG|holds the values"),
        (imagecodecs.png_encode(np.stack([labels(), labels() * 0, labels() * 0], axis=2)), "."),
        (good + bytes(mask_store.LARGEST), "expected a PNG of at most"),
    ):
        with pytest.raises(BadData, match=said):
            mask_store.decoded(data)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 63 + "/"])
def test_no_digest_leads_out_of_the_folder(journal, digest):
    with pytest.raises(BadData, match="SHA-256"):
        journal.mask(digest)
    with pytest.raises(BadData, match="SHA-256"):
        journal.append(SetMask("set/a", digest), author="Ann", expected=0)


# ----------------------------------------------------------------------------------------- damage


def with_masks(tmp_path):
    folder = tmp_path / "annotations"
    with Journal.open(folder) as journal:
        journal.append(SetMask("set/a", journal.put_mask(labels())), author="Ann", expected=0)
        for state in ("present", "absent", "uncertain"):
            change = SetLabel("set/a", "tuberculosis", state)
            journal.append(
                change, author="Ann", expected=State.of(journal).expected(change.subject(""))
            )
    return folder


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE revisions SET author = 'Bob' WHERE number = 2", "revision 2 was edited"),
        ("UPDATE revisions SET change = replace(change, 'absent', 'present')", "revision 3 was"),
        ("DELETE FROM revisions WHERE number = 3", "revision 3 is missing"),
        ("DELETE FROM revisions WHERE number = 1", "revision 1 is missing"),
        ("UPDATE revisions SET image_id = 'set/b' WHERE number = 2", "revision 2"),
    ],
)
def test_an_edited_journal_is_refused_with_the_place_and_what_to_do(tmp_path, statement, said):
    folder = with_masks(tmp_path)
    edit(folder / FILE, statement)
    with Journal.open(folder) as journal:
        for reading in (journal.verify, journal.revisions, lambda: State.of(journal)):
            with pytest.raises(Damaged, match=said) as damaged:
                reading()
            assert "annotations verify" in str(damaged.value)
        if "number = 3" in statement or "absent" in statement:
            assert len(journal.revisions(until=2)) == 2  # what is before the damage can be saved


def test_triggers_refuse_to_change_what_was_written(tmp_path):
    folder = with_masks(tmp_path)
    connection = sqlite3.connect(folder / FILE)
    for statement in ("UPDATE revisions SET author = 'Bob'", "DELETE FROM revisions"):
        with pytest.raises(sqlite3.IntegrityError, match="only appended"):
            connection.execute(statement)
    connection.close()


def test_a_mask_that_is_gone_or_another_is_reported_with_its_revision(tmp_path):
    folder = with_masks(tmp_path)
    [mask] = (folder / "masks").iterdir()
    whole = mask.read_bytes()
    for spoil in (lambda: mask.write_bytes(whole[:-1]), mask.unlink):
        spoil()
        with (
            Journal.open(folder) as journal,
            pytest.raises(Damaged, match="revision 1: .*restore it from a copy"),
        ):
            journal.verify()
    with Journal.open(folder) as journal:  # and putting it again makes it whole
        journal.put_mask(labels())
        journal.verify()


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_raises_our_errors_alone_and_is_never_read_as_less(tmp_path, seed):
    folder = with_masks(tmp_path)
    whole = (folder / FILE).read_bytes()
    generator = np.random.default_rng(seed)
    data = bytearray(whole)
    if seed % 2:
        del data[int(generator.integers(1, len(data))) :]
    else:
        for at in generator.integers(0, len(data), 200):
            data[at] ^= int(generator.integers(1, 256))
    (folder / FILE).write_bytes(data)
    try:
        with Journal.open(folder) as journal:
            journal.verify()
            assert len(journal.revisions()) == 4
    except (Damaged, BadData) as error:
        assert FILE in str(error)


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" + bytes(200)])
def test_what_is_no_journal_is_refused_and_never_replaced(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises((Damaged, BadData)):
        Journal.open(tmp_path)
    assert (tmp_path / FILE).read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("CREATE TABLE revisions (number)")
    connection.close()
    with pytest.raises(BadData, match="no journal of Hilum"):
        Journal.open(tmp_path)
    shutil.rmtree(tmp_path)
    with Journal.open(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("CREATE VIEW evil AS SELECT load_extension('x')")
    connection.close()
    with pytest.raises(Damaged, match="other tables"):
        Journal.open(tmp_path)


def test_without_a_journal_nothing_is_made_unless_wanted(tmp_path):
    with pytest.raises(NotFound, match="hilum serve"):
        Journal.open(tmp_path, create=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_only_be_read_is_read(tmp_path):
    folder = with_masks(tmp_path)
    (folder / FILE).chmod(0o444)
    folder.chmod(0o555)
    try:
        with Journal.open(folder, create=False, read_only=True) as journal:
            assert journal.last == 4
        with Journal.open(folder) as journal, pytest.raises(CannotWrite):
            journal.append(replace(LABEL, image_id="set/z"), author="Ann", expected=0)
    finally:
        folder.chmod(0o755)


def test_each_save_is_whole_or_absent_after_a_kill(tmp_path):
    folder = tmp_path / "annotations"
    for seed in range(3):
        killed = killed_saves.kill_once(folder, seed, longest=0.3)
        assert killed.acknowledged >= 1 and killed.unacknowledged <= 1


# ----------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replace(LABEL, state="maybe"), "no state is called 'maybe'"),
        (replace(LABEL, concept="tuberculosi"), "did you mean 'tuberculosis'"),
        (replace(LABEL, image_id=""), "image_id is empty"),
        (replace(LABEL, image_id="a\nb"), "control characters"),
        (replace(LABEL, image_id="x" * 5000), "characters; expected at most"),
        (DecideIssue("mask-empty|set/a|", "dismissed"), "say why"),
        (DecideIssue("mask-empty|set/a|", "accepted", "", (MIRROR,)), "come with 'mended'"),
        (DecideIssue("nothing", "open"), "rule|image_id"),
        (Correct("set/a", (Correction("set/a", "miror"),)), "did you mean 'mirror'"),
        (Correct("set/a", (replace(MIRROR, author="Bob"),)), "which its revision does"),
        (Correct("set/a", (MIRROR,) * 101), "at most 100 corrections"),
    ],
)
def test_what_makes_no_sense_is_not_kept(journal, change, said):
    with pytest.raises(BadData, match=said):
        journal.append(change, author="Ann", expected=0)
    assert journal.last == 0


@pytest.mark.parametrize("author", ["", "  ", "a\x1b[2J", "x" * 201, "half \ud800"])
def test_an_author_is_a_name_on_one_line(journal, author):
    with pytest.raises(BadData, match="author"):
        journal.append(LABEL, author=author, expected=0)


TEXT = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=20
)
NAMES = TEXT.filter(lambda text: text.isprintable() and text.strip())
STATES = st.sampled_from([*changes.STATES, None])
CORRECTIONS = st.builds(Correction, image_id=NAMES, action=st.sampled_from(["mirror", "leave out"]))
CHANGES = st.one_of(
    st.builds(SetLabel, NAMES, st.sampled_from(["tuberculosis", "local:x"]), STATES),
    st.builds(Read, NAMES, st.just("edema"), STATES),
    st.builds(SetMask, NAMES, st.text("0123456789abcdef", min_size=64, max_size=64)),
    st.builds(RemoveMask, NAMES),
    st.builds(Correct, NAMES, st.lists(CORRECTIONS, max_size=3).map(tuple)),
    st.builds(
        DecideIssue,
        st.builds(issue_key, NAMES, NAMES, st.none() | NAMES),
        st.just("mended"),
        NAMES,
        st.lists(CORRECTIONS, max_size=3).map(tuple),
    ),
)


@settings(max_examples=60, deadline=None)
@given(CHANGES)
def test_a_change_is_the_same_after_its_json(change):
    assert changes.from_json(changes.to_json(change)) == change
    assert changes.is_neutral(changes.neutral(change))
    assert changes.neutral(change).subject("Ann") == change.subject("Ann")


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["kind", "image_id", "concept", "state", "corrections", "digest", "x"]
                ),
                inner | st.sampled_from(list(changes.KINDS)),
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_change_or_refused(value):
    with contextlib.suppress(BadData):
        changes.check(changes.from_json(value))


@settings(deadline=None)
@given(NAMES, st.none() | NAMES, st.none() | NAMES)
def test_an_issue_key_leads_back_to_its_issue(rule, image_id, other):
    assert changes.split_issue_key(issue_key(rule, image_id, other)) == (rule, image_id, other)


def test_the_state_takes_in_what_is_new_alone(journal):
    state = State.of(journal)
    journal.append(LABEL, author="Ann", expected=0)
    journal.append(Correct("set/a", (MIRROR,)), author="Bob", expected=0, reason="marker")
    state = state.updated(journal)
    assert state == State.of(journal) and state.updated(journal) is state
    assert state.corrections() == [
        Correction(
            "set/a", "set label", None, None, None, None, "tuberculosis", "present", "Ann", 1
        ),
        replace(MIRROR, why="marker", author="Bob", revision=2),
    ]


def test_of_two_corrections_of_one_cell_the_later_revision_counts(journal):
    turn = Correction("set/a", "rotate", value="90")
    key = issue_key("image-rotated", "set/a", None)
    journal.append(Correct("set/a", (turn,)), author="Ann", expected=0)
    journal.append(
        DecideIssue(key, "mended", "upside down", (replace(turn, value="180"),)),
        author="Bob",
        expected=0,
    )
    [one] = State.of(journal).corrections()
    assert (one.value, one.author, one.revision, one.rule, one.why) == (
        "180",
        "Bob",
        2,
        "image-rotated",
        "upside down",
    )
