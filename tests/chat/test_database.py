"""SQLite files that several processes make and write at one time."""

import sqlite3
import threading

import pytest

from lakeinterp.chat.database import connect, transaction

SCHEMA = "CREATE TABLE IF NOT EXISTS t (n INTEGER);"


def test_file_that_another_process_makes_just_now_is_waited_for(tmp_path):
    # SQLite itself waits for nobody where a new file is switched to WAL, and says it is locked.
    path = tmp_path / "x.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        sqlite3.connect(path, timeout=60).execute("PRAGMA journal_mode = WAL")
    ending = threading.Timer(0.3, other.execute, ["COMMIT"])
    ending.start()
    con = connect(path, SCHEMA)
    ending.join()
    with transaction(con):
        con.execute("INSERT INTO t VALUES (1)")
    assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    con.close()
    other.close()


def test_block_that_fails_leaves_nothing(tmp_path):
    con = connect(tmp_path / "deep" / "x.sqlite", SCHEMA, synchronous="FULL")

    def fail():
        with transaction(con):
            con.execute("INSERT INTO t VALUES (1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert con.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert con.execute("PRAGMA synchronous").fetchone() == (2,)
    con.close()


def test_file_that_cannot_be_opened_is_an_error_and_no_endless_wait(tmp_path):
    (tmp_path / "x.sqlite").write_text("this is no database, whatever its name says")
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        connect(tmp_path / "x.sqlite", SCHEMA)
