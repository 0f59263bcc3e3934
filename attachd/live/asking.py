"""One call of the OCI runtime from the server: with a limit on its time and on its words."""

import os
from collections.abc import Callable
from subprocess import DEVNULL, PIPE

import trio

from attachd.errors import RuntimeFailed
from attachd.keeper.processes import clean_environment
from attachd.keeper.runtime import Words, failure

#: A container's state (``runc state``) has its annotations in it, which may be long.
MAX_ANSWER = 16 << 20

#: What a program has left behind may keep its pipes open: they are read for so long after its end.
LAST_SECONDS = 0.5

_READ_BYTES = 65536


async def ask(argv: list[str], verb: str, limit: float, log: str) -> bytes:
    """Run the runtime to its end and return its stdout.

    Raises RuntimeFailed with its own words, of which the beginning and the end are kept, and
    when it is not done after ``limit`` seconds; it is killed then. On cancel: it is killed, too.
    ``log`` is where the runtime writes its errors in JSON.
    """
    try:
        process = await trio.lowlevel.open_process(
            argv,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=clean_environment(os.environ),
        )
    except OSError as error:
        what = f"cannot run {argv[0]}: {error.strerror}"
        raise RuntimeFailed(verb, 126, what, "") from None
    words, answer = Words(), bytearray()
    with trio.move_on_after(limit) as patience:
        await _hear_out(process, words, answer)
    if patience.cancelled_caught:
        what = f"{os.path.basename(argv[0])} was not done after {limit:g} seconds"
        raise RuntimeFailed(verb, 137, f"{verb}: {what}", words.text)
    status = process.returncode or 0
    if status != 0:
        raise failure(verb, status if status > 0 else 128 - status, words.text, log)
    return bytes(answer)


async def _hear_out(process: trio.Process, words: Words, answer: bytearray) -> None:
    """Return when it has ended and was heard. On cancel: it is killed and reaped."""

    def keep(data: bytes) -> None:
        answer.extend(data[: MAX_ANSWER - len(answer)])

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hear, process.stdout, keep)
            nursery.start_soon(_hear, process.stderr, words.hear)
            await process.wait()
            nursery.cancel_scope.deadline = trio.current_time() + LAST_SECONDS
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            await trio.aclose_forcefully(stream)


async def _hear(stream: trio.abc.ReceiveStream | None, take: Callable[[bytes], None]) -> None:
    assert stream is not None
    while data := await stream.receive_some(_READ_BYTES):
        take(bytes(data))
