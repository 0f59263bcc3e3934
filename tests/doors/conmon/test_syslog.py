"""The server's own messages as syslog entries."""

import logging
import socket

import pytest

from attachd.doors.conmon.syslog import Syslog


@pytest.mark.parametrize(
    ("level", "start"),
    [
        (logging.CRITICAL, b"<11>conmon: conmon 01234567890123456789 <error>: "),
        (logging.ERROR, b"<11>conmon: conmon 01234567890123456789 <error>: "),
        (logging.WARNING, b"<12>conmon: conmon 01234567890123456789 <warning>: "),
        (logging.INFO, b"<14>conmon: conmon 01234567890123456789 <info>: "),
        (logging.DEBUG, b"<14>conmon: conmon 01234567890123456789 <info>: "),
    ],
)
def test_each_has_a_priority_and_the_container(tmp_path, level, start) -> None:
    """In conmon's words; of the id the first twenty characters."""
    place = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as logger:
        logger.bind(place)
        handler = Syslog("0123456789" * 4, place)
        record = logging.LogRecord("name", level, "", 0, "what %s\udcff", ("now",), None)
        handler.handle(record)
        assert logger.recv(1000) == start + b"what now?"


def test_without_a_logger_nothing_happens(tmp_path) -> None:
    """Nor with one that does not read: nobody waits."""
    place = str(tmp_path / "log")
    record = logging.LogRecord("name", logging.ERROR, "", 0, "x" * 1000, None, None)
    Syslog("box", place).handle(record)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as logger:
        logger.bind(place)
        for _ in range(2000):
            Syslog("box", place).handle(record)
