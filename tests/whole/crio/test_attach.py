"""``kubectl attach`` and ``run -i`` through CRI-O: the attach socket, stdin, and terminals."""

import os

import pytest
from crio import Container, Crio, records, text_of, with_both
from harness import is_alive, wait_for

ECHO = "while read line; do echo got $line; done; echo end"


@with_both()
def test_both_streams(crio: Crio) -> None:
    """A client has what comes from then on, each stream under its number, then the end."""
    container = crio.create("sh", "-c", "echo out; echo err >&2")
    with container.attach() as client:
        container.start()
        streams = client.read_all()

    assert streams == {1: b"", 2: b"out\n", 3: b"err\n"}


@with_both()
def test_many_clients(crio: Crio) -> None:
    """All are given all of it."""
    container = crio.create("sh", "-c", "seq 2000")  # conmon waits for each that does not read
    clients = [container.attach() for _ in range(5)]
    container.start()
    wanted = b"".join(b"%d\n" % number for number in range(1, 2001))

    for client in clients:
        with client:
            assert client.read_all()[2] == wanted
    assert container.exit_code() == 0
    assert text_of(container.log) == wanted


@with_both()
def test_stdin_stays_open(crio: Crio) -> None:
    """``stdin: true`` without ``stdinOnce``: clients come and go, and stdin does not end."""
    container = crio.run("sh", "-c", ECHO, stdin=True)
    for number in range(3):
        with container.attach() as client:
            client.send(b"line %d\n" % number)
            client.read_until(b"got line %d\n" % number)
            client.end_input()

    assert (b"stdout", b"F", b"end") not in records(container.log)
    with container.attach() as client:
        client.send(b"last\n")
        client.read_until(b"got last\n")


@with_both()
def test_stdin_once(crio: Crio) -> None:
    """``stdinOnce``: the end of the client's input is the end of stdin."""
    container = crio.run("sh", "-c", ECHO, stdin=True, stdin_once=True)
    with container.attach() as client:
        client.send(b"a\nb\n")
        client.end_input()
        assert client.read_all()[2] == b"got a\ngot b\nend\n"

    assert container.exit_code() == 0


@with_both()
def test_stdin_once_and_a_client_that_goes(crio: Crio) -> None:
    """Also when it goes without a word: what it has sent comes first."""
    container = crio.run("sh", "-c", ECHO, stdin=True, stdin_once=True)
    with container.attach() as client:
        client.send(b"a\n")

    assert container.exit_code() == 0
    assert text_of(container.log) == b"got a\nend\n"


def test_a_watcher_leaves_stdin_to_the_others(crio: Crio) -> None:
    """Of several clients one that goes does not end the input of those who stay."""
    container = crio.run("sh", "-c", ECHO, stdin=True, stdin_once=True)
    with container.attach() as typist:
        with container.attach() as watcher:
            typist.send(b"a\n")
            watcher.read_until(b"got a\n")
        typist.send(b"b\n")
        typist.read_until(b"got b\n")
        typist.end_input()
        typist.read_until(b"end\n")

    assert container.exit_code() == 0


@with_both()
def test_without_stdin(crio: Crio) -> None:
    """Who types into a container without stdin is not heard, and sees its output."""
    container = crio.create("sh", "-c", "cat; echo done")
    with container.attach() as client:
        client.send(b"nobody\n")
        container.start()
        assert client.read_all()[2] == b"done\n"


@pytest.fixture
def terminal(crio: Crio) -> Container:
    """A container with a terminal."""
    typed = "read line || continue; echo got $line"  # a signal interrupts read
    script = f"trap 'stty size' WINCH; echo up; while :; do {typed}; done"
    container = crio.run("sh", "-c", script, terminal=True)
    wait_for(lambda: records(container.log))
    return container


@with_both()
def test_terminal(terminal: Container) -> None:
    """What is typed is echoed; all output is stdout, in the log as well."""
    with terminal.attach() as client:
        client.send(b"hello\n")
        client.read_until(b"hello\r\ngot hello\r\n")
        assert client.streams[3] == b""
    wait_for(lambda: (b"stdout", b"F", b"got hello\r") in records(terminal.log))


@with_both()
def test_resize(terminal: Container) -> None:
    """A line in ``ctl`` is a size, and the program hears of it."""
    with terminal.attach() as client:
        terminal.control("1 31 77\n")
        client.read_until(b"31 77\r\n")


def test_a_bad_line_drops_itself_alone(terminal: Container) -> None:
    """Of what is written to ``ctl`` at once; conmon drops the good one behind it, too."""
    with terminal.attach() as client:
        terminal.control("nonsense\n1 2000 1\n1 32 78\n")
        client.read_until(b"32 78\r\n")


@with_both()
def test_resize_before_the_start(crio: Crio) -> None:
    """CRI-O's first size comes before the program begins."""
    container = crio.create("stty", "size", terminal=True)
    container.control("1 41 99\n")
    with container.attach() as client:
        wait_for(lambda: _size_of(container) == "41 99")
        container.start()
        assert client.read_all()[2] == b"41 99\r\n"


def _size_of(container: Container) -> str:
    """The size of the terminal, seen from outside: a created container has it open."""
    fd = os.open(f"/proc/{container.pid}/fd/0", os.O_RDWR | os.O_NOCTTY)
    try:
        columns, rows = os.get_terminal_size(fd)
        return f"{rows} {columns}"
    finally:
        os.close(fd)


@with_both()
def test_terminal_outlives_its_clients(terminal: Container) -> None:
    """Who leaves takes neither the terminal nor stdin along."""
    with terminal.attach() as client:
        client.end_input()
    with terminal.attach() as client:
        client.send(b"again\n")
        client.read_until(b"got again\r\n")


@with_both(fault="the link to the bundle stays")
def test_the_socket_goes_with_the_container(crio: Crio) -> None:
    """When clients are told of the end, nobody new can come."""
    container = crio.create("true")
    with container.attach() as client:
        container.start()
        client.read_all()

    assert container.exit_code() == 0
    monitor = container.monitor_pid
    wait_for(lambda: not is_alive(monitor))
    assert list(crio.sockets.iterdir()) == []
    assert not (container.bundle / "attach").exists()


def test_a_client_that_does_not_read(crio: Crio) -> None:
    """Holds up neither the container nor its log, and gets everything when it reads."""
    container = crio.create("sh", "-c", "seq 300000")
    with container.attach() as client:
        container.start()
        wait_for(lambda: b" F 300000\n" in container.log.read_bytes())
        assert client.read_all()[2] == b"".join(b"%d\n" % n for n in range(1, 300001))
