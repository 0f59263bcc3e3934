"""One step of a soak: who acts on which container, with chances of its own."""

import os
import random
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio
from harness import Shop

from soaking.boxes import PATIENCE, Box


@attrs.define(eq=False)
class Step:
    """What an actor is given. Its ``chance`` is of this step alone: others do not disturb it."""

    number: int
    box: Box
    chance: random.Random
    shop: Shop
    note: Callable[[str], None]  #: for the log of actions

    def scratch(self, name: str) -> Path:
        """Return the path of a file of this step's own."""
        return self.shop.scratch / f"{self.number}-{name}"

    async def call(self, program: str, *words: object, **options: object) -> bytes:
        """Run a program that must end with 0; return its stdout. Raises AssertionError."""
        done = await trio.to_thread.run_sync(
            lambda: self.shop.call(program, *words, **options)
        )
        return done.stdout

    @asynccontextmanager
    async def program(
        self, program: str, *words: object, **options: object
    ) -> AsyncIterator[trio.Process]:
        """Run a program beside us; it is killed, and has ended, when the block is left."""
        process = await trio.lowlevel.open_process(
            self.shop.argv(program, *words),
            env=os.environ | {"ATTACHD_ROOT": str(self.shop.root)},
            **({"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                "stderr": subprocess.DEVNULL} | options),
        )  # fmt: skip
        try:
            with trio.fail_after(PATIENCE):
                yield process
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await trio.aclose_forcefully(stream)
