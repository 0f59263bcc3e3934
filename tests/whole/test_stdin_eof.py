"""Who may close a container's stdin: ``--stdin-eof any|once|owner|never``."""

import json
import os
import signal
import socket
import subprocess

import pytest
import trio
from attachd_clients import Place, attach, attach_blocking
from harness import PATIENCE, wait_for

from attachd.errors import Refused
from attachd.wire import messages as say
from attachd.wire.frames import FrameDecoder, encode_frame

pytestmark = pytest.mark.runc


def fed(shop, policy: str, *command: str, options: tuple[str, ...] = ("-i",)) -> str:
    """Return a running container with this policy, which reads its stdin."""
    return shop.run(*(command or ("cat",)), options=(*options, "--stdin-eof", policy))


def told(shop, box: str) -> dict:
    """Return what the shim reports of stdin."""
    return json.loads(shop.ctl("stats", box))["stdin"]


async def read_bytes(client, size: int) -> bytes:
    data = b""
    while len(data) < size:
        event = await client.receive()
        assert isinstance(event, say.Output | say.Writer), event
        data += event.data if isinstance(event, say.Output) else b""
    return data


@pytest.mark.parametrize("policy", ["any", "once", "owner", "never"])
async def test_a_welcome_and_a_report_name_the_policy(shop, policy) -> None:
    """``open`` is what the first servers called "any"."""
    box = fed(shop, policy)
    name = "open" if policy == "any" else policy
    async with attach(box, root=str(shop.root), since="none") as client:
        assert client.welcome.stdin == name
        assert (await client.status())["stdin"]["state"] == name
    assert shop.state(box)["config"]["stdin_eof"] == policy


async def test_never_refuses_every_end_and_the_talk_goes_on(shop) -> None:
    """Nothing is closed: not by who asks, not by the holder of the lease, and not by leaving."""
    box = fed(shop, "never")
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as looks:
            async with attach(box, root=str(shop.root), since="none") as client:
                with pytest.raises(Refused, match="--stdin-eof never") as refused:
                    await client.send_eof()
                assert refused.value.code == "eof_denied"
                await client.send(b"still ")
                await client.lease("take")
                for _ in range(2):
                    with pytest.raises(Refused, match="--stdin-eof never"):
                        await client.send_eof()
                await client.send(b"open ")
                await client.lease("free")
            await looks.send(b"after all\n")
            assert await read_bytes(looks, 21) == b"still open after all\n"


def test_never_refuses_a_blocking_client_too(shop) -> None:
    """Before and after a byte was sent."""
    box = fed(shop, "never")
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        for _ in range(2):
            with pytest.raises(Refused, match="--stdin-eof never") as refused:
                client.send_eof(PATIENCE)
            assert refused.value.code == "eof_denied"
            client.send(b"x", PATIENCE)
    wait_for(lambda: told(shop, box)["delivered"] == 2)


async def test_owner_takes_the_end_from_the_holder_of_the_lease_alone(shop) -> None:
    """Without a lease nobody may; with one, its holder may and others may not."""
    box = fed(shop, "owner")
    root = str(shop.root)
    with trio.fail_after(PATIENCE):
        async with attach(box, root=root, since="none") as other:
            async with attach(box, root=root, since="start", name="me") as owner:
                for client in (other, owner):
                    with pytest.raises(Refused, match="--stdin-eof owner") as refused:
                        await client.send_eof()
                    assert refused.value.code == "eof_denied"
                await owner.lease("take")
                with pytest.raises(Refused, match="--stdin-eof owner"):
                    await other.send_eof()
                await owner.lease("free")
                with pytest.raises(Refused, match="--stdin-eof owner"):
                    await owner.send_eof()
                await owner.lease("steal")
                await owner.send(b"all\n")
                await owner.send_eof()
                assert await read_bytes(owner, 4) == b"all\n"
            events = [event async for event in other]
    ends = [event.record for event in events if isinstance(event, say.Exit)]
    assert [record["exit_code"] for record in ends] == [0]


async def test_an_owner_who_was_robbed_may_no_longer_close(shop) -> None:
    """The thief may."""
    box = fed(shop, "owner")
    root = str(shop.root)
    with trio.fail_after(PATIENCE):
        async with attach(box, root=root) as loser, attach(box, root=root) as thief:
            await loser.lease("take")
            await thief.lease("steal")
            with pytest.raises(Refused, match="--stdin-eof owner"):
                await loser.send_eof()
            await thief.send_eof()
    assert shop.ended(box)["exit_code"] == 0


async def test_the_holder_may_close_across_a_death_of_the_server(shop) -> None:
    """The lease is kept by key, and so is the right that comes with it."""
    box = fed(shop, "owner")
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="none") as owner:
            await owner.lease("take")
            server = shop.server(box)
            assert server
            os.kill(server, signal.SIGKILL)
            await owner.send(b"mine\n")
            await owner.send_eof()
    assert shop.ended(box)["restarts"] == 1
    assert shop.output(box) == b"mine\n"


async def test_a_viewer_is_refused_and_not_told_that_it_worked(shop) -> None:
    """Whatever the policy: it may only look."""
    box = fed(shop, "any")
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="none", role="viewer") as client:
            with pytest.raises(Refused, match="only look"):
                await client.send_eof()
    assert told(shop, box)["state"] == "open"


class Raw:
    """A client that says what it likes, and hears no news."""

    def __init__(self, peer: socket.socket) -> None:
        peer.settimeout(PATIENCE)
        self._peer = peer
        self._decoder = FrameDecoder()

    def tell(self, message: say.Message) -> None:
        self._peer.sendall(encode_frame(say.encode(message)))

    def hear(self, kind: type) -> say.Message:
        """Return the next message of this kind; no goodbye may come before it."""
        while True:
            while (payload := self._decoder.next_frame()) is None:
                self._decoder.feed(self._peer.recv(1 << 16))
            message = say.decode(payload)
            assert not isinstance(message, say.Goodbye), message
            if isinstance(message, kind):
                return message


def test_an_end_behind_stdin_that_was_refused_is_skipped_with_it(shop) -> None:
    """The lease was freed before the end came, and the refusal is not heard yet: no hole."""
    box = fed(shop, "any")
    place = Place.find(box, str(shop.root))
    with attach_blocking(box, root=str(shop.root), since="none") as holder:
        holder.lease("take", PATIENCE)
        with place.connect() as peer:
            raw = Raw(peer)
            raw.tell(say.Hello(version=1, credit=0, since="none", features=["lease"]))
            raw.tell(say.Stdin(offset=0, data=b"refused"))
            assert raw.hear(say.StdinRefused).offset == 0
            holder.lease("free", PATIENCE)
            raw.tell(say.StdinEof(offset=7))
            raw.tell(say.Ping(id=1))
            raw.hear(say.Pong)
            assert told(shop, box)["state"] == "open"
            raw.tell(say.Stdin(offset=0, data=b"taken\n"))
            raw.tell(say.StdinEof(offset=6))
            while not raw.hear(say.StdinAck).eof:
                pass
    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == b"taken\n"


@pytest.mark.parametrize("policy", ["never", "owner"])
def test_a_pipe_into_attach_says_so_in_one_line_and_looks_on(shop, policy) -> None:
    """Its last line goes in, its end is refused, and output is shown to the container's end."""
    box = fed(shop, policy, "sh", "-c", "read a; read b; echo $a $b; exit 3")
    first = shop.popen("attach", "--from", "start", box, stdin=subprocess.PIPE)
    first.stdin.write(b"one\n")
    first.stdin.close()
    line = first.stderr.readline()
    assert line.startswith(b"attach: ")
    assert f"--stdin-eof {policy}".encode() in line
    assert first.poll() is None
    shop.call("attachctl", "send", box, "two")
    first.stdin = None
    assert first.communicate(timeout=PATIENCE) == (b"one two\n", b"")
    assert first.returncode == 3


def test_a_pipe_into_an_exclusive_attach_closes_what_only_the_owner_may(shop) -> None:
    """``attach --exclusive`` holds the lease."""
    box = fed(shop, "owner")
    done = shop.call("attach", "--exclusive", "--from", "start", box, input=b"all\n")
    assert (done.stdout, done.stderr) == (b"all\n", b"")
    assert shop.ended(box)["exit_code"] == 0


@pytest.mark.parametrize("policy", ["never", "owner"])
def test_no_end_is_typed_at_a_terminal_by_who_may_not(session, policy) -> None:
    """VEOF is what an end of stdin is there; what is typed otherwise is nobody's business."""
    command, options = ["sh", "-c", "cat; echo over"], ["--stdin-eof", policy]
    talk = session(command, terminal=True, options=options)
    talk.send_line("line")
    talk.expect_exact("line\r\nline\r\n")  # the echo, and cat's own: it reads
    with pytest.raises(Refused, match=f"--stdin-eof {policy}"):
        talk.client.send_eof(PATIENCE)
    talk.send_line("more")
    assert "over" not in talk.expect_exact("more\r\nmore\r\n").before
    if policy == "owner":
        talk.client.lease("take", PATIENCE)
        talk.client.send_eof(PATIENCE)
    else:
        talk.send_control("d")
    talk.expect_exact("over")
    assert talk.wait() == 0


def kill_server_and(shop, box: str, meanwhile) -> None:
    """Kill the server, and call ``meanwhile`` before there can be another one."""
    keeper, server = shop.keeper(box), wait_for(lambda: shop.server(box))
    os.kill(keeper, signal.SIGSTOP)
    try:
        os.kill(server, signal.SIGKILL)
        meanwhile()
    finally:
        os.kill(keeper, signal.SIGCONT)


def writer_of(shop, box: str) -> subprocess.Popen[bytes]:
    """Return an ``attach`` that has sent a line and holds its stdin open."""
    writer = shop.popen("attach", "--from", "start", box, stdin=subprocess.PIPE)
    writer.stdin.write(b"once\n")
    assert writer.stdout.readline() == b"once\n"
    return writer


def test_once_is_not_forgotten_by_a_server_that_dies_before_the_writer_leaves(shop) -> None:
    """It is the account of stdin that knows who has written, not the connection."""
    box = fed(shop, "once")
    writer = writer_of(shop, box)
    kill_server_and(shop, box, lambda: None)
    named = lambda: [c["pid"] for c in json.loads(shop.ctl("stats", box))["clients"]]  # noqa: E731
    wait_for(lambda: writer.pid in named())
    assert told(shop, box)["state"] == "once"
    writer.kill()
    writer.communicate(timeout=PATIENCE)

    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == b"once\n"


def test_once_is_not_forgotten_when_the_writer_leaves_while_there_is_no_server(shop) -> None:
    """It had its time to come back."""
    box = fed(shop, "once")
    writer = writer_of(shop, box)

    def leave() -> None:
        writer.kill()
        writer.communicate(timeout=PATIENCE)

    kill_server_and(shop, box, leave)

    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == b"once\n"


def test_once_by_its_other_name_and_by_both(shop) -> None:
    """They do not contradict each other."""
    box = shop.run("cat", options=("-i", "--stdin-once", "--stdin-eof", "once"))
    shop.call("attach", "--from", "live", box, input=b"x\n")

    assert shop.ended(box)["exit_code"] == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("-i", "--stdin-once", "--stdin-eof", "any"),
            b"either --stdin-once or --stdin-eof any",
        ),
        (("-i", "--stdin-once", "--stdin-eof", "never"), b"either --stdin-once or"),
        (("--stdin-once",), b"--stdin-once needs --stdin"),
        (("--stdin-eof", "any"), b"--stdin-eof needs --stdin"),
        (("--stdin-eof", "never"), b"--stdin-eof needs --stdin"),
        (("-i", "--stdin-eof", "sometimes"), b"any, once, owner, never are known"),
        (("-i", "--stdin-eof", ""), b"any, once, owner, never are known"),
        (("-i", "-t", "--stdin-eof", "once"), b"is for pipes"),
        (("-i", "-t", "--stdin-once"), b"is for pipes"),
    ],
)
def test_what_contradicts_itself_is_one_line(shop, words, text) -> None:
    """With 125, and nothing is made."""
    done = shop.call("attachd", "run", *words, shop.name(), "--", "cat", check=False)

    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (125, b"", 1)
    assert text in done.stderr
    assert not shop.root.exists()


def test_once_is_refused_for_a_bundle_with_a_terminal(shop) -> None:
    """The bundle knows that it has one, not the options."""
    bundle, box = shop.bundle("cat"), shop.name()
    shop.patch(bundle, lambda spec: spec["process"].update(terminal=True))
    words = ("-i", "--stdin-once", "--bundle", bundle, box)
    done = shop.call("attachd", "create", *words, check=False)

    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
    assert b"is for pipes" in done.stderr
    assert not shop.path(box).exists()
