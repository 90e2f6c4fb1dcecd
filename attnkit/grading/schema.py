"""The ledger's tables, and how a ledger of an earlier schema becomes one of this.

All of it happens in one transaction: a ledger is of one schema or of the other, whenever the process ends.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from attnkit.grading.errors import GradingError

SCHEMA_VERSION = 2

# Schema 1. A new ledger starts here as well, so that there is one way to the newest.
_FIRST = """
CREATE TABLE submission (
    key TEXT PRIMARY KEY,       -- hash of all that the grade depends on
    lab TEXT NOT NULL,
    student TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    source TEXT NOT NULL,       -- where the file was found, below the folder that was graded
    sha256 TEXT NOT NULL,       -- of the file's bytes
    isolation TEXT NOT NULL,    -- jail or none
    status TEXT NOT NULL,       -- graded or unreadable
    message TEXT NOT NULL
);
CREATE TABLE answer (
    key TEXT NOT NULL REFERENCES submission (key),
    position INTEGER NOT NULL,
    question TEXT NOT NULL,
    points REAL NOT NULL,
    max_points REAL NOT NULL,
    status TEXT NOT NULL,
    framework TEXT NOT NULL,    -- the kind of arrays that gave the better total
    seed TEXT NOT NULL,         -- of the inputs: with it the grade can be repeated
    parts TEXT NOT NULL,        -- JSON: name, worth, passed
    told TEXT NOT NULL,         -- JSON: what the student may read
    outcome TEXT NOT NULL,      -- JSON: everything, for the instructor
    PRIMARY KEY (key, question)
);
"""

# The tables lab, student, entry, problem and run are replaced by each run of a lab; the others only grow.
_SECOND = """
ALTER TABLE submission ADD COLUMN made TEXT NOT NULL DEFAULT '{}';      -- JSON: digests, versions, limits
ALTER TABLE submission ADD COLUMN graded_at TEXT NOT NULL DEFAULT '';
ALTER TABLE answer ADD COLUMN flags TEXT NOT NULL DEFAULT '[]';         -- JSON: (kind, text), for a person
ALTER TABLE answer ADD COLUMN variant TEXT NOT NULL DEFAULT '{}';       -- JSON: this student's parameters
ALTER TABLE answer ADD COLUMN seconds REAL NOT NULL DEFAULT 0;
ALTER TABLE answer ADD COLUMN measured TEXT NOT NULL DEFAULT '[]';      -- JSON: memory and time, of the machine
ALTER TABLE answer ADD COLUMN carried TEXT NOT NULL DEFAULT '';         -- key of the record it was taken over from
CREATE TABLE lab (
    name TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    questions TEXT NOT NULL     -- JSON: name, points, doc, manual of each
);
CREATE TABLE student (
    lab TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    listed INTEGER NOT NULL,    -- whether the roster has them
    moodle TEXT NOT NULL,
    canvas TEXT NOT NULL,
    login TEXT NOT NULL,
    email TEXT NOT NULL,
    extension TEXT NOT NULL,
    PRIMARY KEY (lab, id)
);
CREATE TABLE entry (
    lab TEXT NOT NULL,
    student TEXT NOT NULL,
    position INTEGER NOT NULL,  -- in the order in which a student handed them in
    key TEXT NOT NULL,          -- of the submission, which is there once it is graded
    handed_in TEXT NOT NULL,
    late INTEGER NOT NULL,
    PRIMARY KEY (lab, student, position)
);
CREATE TABLE problem (
    lab TEXT NOT NULL,
    position INTEGER NOT NULL,
    place TEXT NOT NULL,
    student TEXT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (lab, position)
);
CREATE TABLE run (
    lab TEXT PRIMARY KEY,
    number INTEGER NOT NULL,    -- the lab with the highest was run last
    isolation TEXT NOT NULL,
    attempts TEXT NOT NULL,
    deadline TEXT NOT NULL,
    late TEXT NOT NULL
);
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    lab TEXT NOT NULL,
    student TEXT NOT NULL,
    question TEXT NOT NULL,
    author TEXT NOT NULL,
    reason TEXT NOT NULL,
    data TEXT NOT NULL          -- JSON
);
CREATE INDEX submission_of_student ON submission (lab, student, sha256);
CREATE INDEX event_of_student ON event (lab, student);
CREATE TRIGGER event_stays BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'history is never rewritten'); END;
CREATE TRIGGER event_kept BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'history is never rewritten'); END;
"""

# What schema 1 did not store is told from what it did: of each student the submission that was written last counts.
_FROM_FIRST = """
INSERT INTO lab SELECT lab, lab, json_group_array(json(asked)) FROM (
    SELECT DISTINCT lab, position, json_object('name', question, 'points', max_points, 'doc', '',
        'manual', json('false')) AS asked
    FROM answer JOIN submission USING (key)
    WHERE submission.rowid IN (SELECT max(s.rowid) FROM submission s JOIN answer USING (key) GROUP BY s.lab)
    ORDER BY lab, position) GROUP BY lab;
INSERT INTO student SELECT DISTINCT lab, student, student, 1, '', '', '', '', '' FROM submission;
INSERT INTO entry SELECT lab, student, 0, key, '', 0 FROM submission
    WHERE rowid IN (SELECT max(rowid) FROM submission GROUP BY lab, student);
INSERT INTO run SELECT lab, row_number() OVER (ORDER BY max(rowid)), isolation, 'last', '', ''
    FROM submission GROUP BY lab;
INSERT INTO event (at, kind, lab, student, question, author, reason, data)
    SELECT '', 'graded', lab, student, '', '', '', json_object('key', key, 'source', source, 'attempt', attempt,
        'points', (SELECT total(points) FROM answer WHERE answer.key = submission.key))
    FROM submission ORDER BY rowid;
"""


def open_database(path: Path) -> sqlite3.Connection:
    """The ledger at `path`, made or brought to this schema. Raises `GradingError` for a newer one, untouched."""
    database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        _refuse_newer(database, path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        _upgrade(database)
        _refuse_newer(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _refuse_newer(database: sqlite3.Connection, path: Path) -> None:
    version = _version(database)
    if version > SCHEMA_VERSION:
        raise GradingError(
            f"The ledger {path} has schema {version}, which a newer attnkit wrote; this one knows {SCHEMA_VERSION}. "
            "Update attnkit (pip install -U attnkit), or name another --out. The ledger was left as it is."
        )


def _upgrade(database: sqlite3.Connection) -> None:
    # Only a change asks for the lock that one process at a time can hold.
    if _version(database) >= SCHEMA_VERSION:
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        version = _version(database)
        steps = [_FIRST] if version < 1 else []
        steps += [_SECOND] if version < 2 else []
        steps += [_FROM_FIRST] if version == 1 else []
        for statement in _statements("".join(steps)):
            database.execute(statement)
        if steps:
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> list[str]:
    """The statements of a script one by one: `executescript` would commit before the first."""
    found, part = [], ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            found.append(part)
            part = ""
    return found
