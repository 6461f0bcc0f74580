"""All SQLite files of Hilum are opened and changed in one way, and their errors distinguished."""

import sqlite3
from contextlib import closing

import pytest

from hilum.errors import BadData
from hilum.storage import database
from hilum.storage.database import Fault

TABLE = "CREATE TABLE kept (value BLOB) STRICT"


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "größe #1?.sqlite"
    with closing(database.connected(place, {"page_size": "512"})) as made:
        made.execute(TABLE)
        made.execute("INSERT INTO kept VALUES (zeroblob(4000))")
    return place


def locked(path, connection):
    with closing(database.connected(path, {})) as other, database.transaction(other):
        connection.execute("INSERT INTO kept VALUES (x'00')")


def full(path, connection):
    connection.execute("PRAGMA max_page_count = 1")
    connection.execute("INSERT INTO kept VALUES (zeroblob(100000))")


def read_only(path, connection):
    connection.execute("PRAGMA query_only = ON")
    connection.execute("DELETE FROM kept")


def overwritten(path, connection):
    path.write_bytes(b"no database" * 100)
    connection.execute("SELECT * FROM kept").fetchall()


@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        (locked, Fault.LOCKED),
        (full, Fault.FULL),
        (read_only, Fault.REFUSED),
        (overwritten, Fault.DAMAGED),
    ],
)
def test_errors_are_distinguished_by_what_they_are_about(happens, expected, path):
    with closing(database.connected(path, {})) as connection:
        with pytest.raises(sqlite3.DatabaseError) as caught:
            happens(path, connection)
        assert database.fault(caught.value) is expected


def test_a_transaction_changes_all_or_nothing(path):
    with closing(database.connected(path, {})) as connection:
        with pytest.raises(ZeroDivisionError), database.transaction(connection) as run:
            run("DELETE FROM kept")
            raise ZeroDivisionError
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)
        with database.transaction(connection) as run:
            run("DELETE FROM kept")
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_file_that_must_be_there_is_not_made(tmp_path):
    with pytest.raises(sqlite3.OperationalError) as caught:
        database.connected(tmp_path / "absent", {"synchronous": "FULL"}, create=False).execute(
            "SELECT 1 FROM sqlite_schema"
        )
    assert database.fault(caught.value) is Fault.REFUSED and not list(tmp_path.iterdir())


def test_another_version_and_other_tables_are_seen(path):
    with closing(database.connected(path, {"user_version": "2"})) as connection:
        assert database.header(connection) == (0, 2) and not database.damage(connection)
        assert database.schema(connection) == {("table", "kept", TABLE)}
    with pytest.raises(BadData, match="format 2, and this Hilum reads 1"):
        database.refuse_other_format(path, 2, 1)
