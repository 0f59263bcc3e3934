"""A line gets to who listens, whole; who does not listen is no error."""

import os
import syslog

import pytest

from attachd.doors.conmon.telling import copy_to_syslog, say


def test_everything_is_written() -> None:
    """Also what is no text: as the bytes that it was."""
    read, write = os.pipe()
    say(write, "é\udcff\n")
    os.close(write)

    assert os.read(read, 99) == b"\xc3\xa9\xff\n"
    os.close(read)


def test_a_descriptor_that_takes_a_part_at_a_time(monkeypatch) -> None:
    """Gets the rest in further writes."""
    taken = []
    monkeypatch.setattr(os, "write", lambda _, data: taken.append(data[:2]) or len(taken[-1]))
    say(1, "12345")

    assert taken == [b"12", b"34", b"5"]


def test_a_descriptor_that_is_closed() -> None:
    """Is left alone."""
    read, write = os.pipe()
    os.close(read)
    os.close(write)

    say(write, "x")


@pytest.mark.parametrize(
    ("line", "entries"),
    [
        ("[conmon:e]: no\udcff",
         [(syslog.LOG_ERR, "conmon 01234567890123456789 <error>: no\ufffd")]),
        ("[conmon:w]: hm", [(syslog.LOG_WARNING, "conmon 01234567890123456789 <warning>: hm")]),
        ("conmon: Container ID not provided. Use --cid", []),
    ],
)  # fmt: skip
def test_syslog(line, entries, monkeypatch) -> None:
    """Gets the id's first twenty characters and the level; not what came before a level."""
    written = []
    monkeypatch.setattr(syslog, "syslog", lambda *entry: written.append(entry))
    copy_to_syslog(line, "0123456789" * 6)

    assert written == entries
