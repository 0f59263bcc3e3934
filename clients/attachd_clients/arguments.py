"""What the command lines of ``attach`` and ``attachctl`` have in common."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from attachd import __version__
from attachd.errors import AttachdError, UsageError
from attachd.ground import open_standard_descriptors, state_root
from attachd_clients.places import Place

#: The program's own failure, as docker and podman use it.
FAILED = 125


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line."""

    #: Options may stand between an argument and one that may be left out, which argparse only
    #: then takes for it (https://docs.python.org/3/library/argparse.html#intermixed-parsing).
    mixed = False

    def parse_known_args(  # type: ignore[override]
        self, args: list[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, also as a verb's parser: intermixed where that was asked for."""
        if not self.mixed:
            return super().parse_known_args(args, namespace)
        self.mixed = False  # it is called back
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.mixed = True

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing usage and ending."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser(prog: str, about: str) -> Parser:
    """Return a parser that knows ``--root`` and ``--version``."""
    made = Parser(prog=prog, description=about, allow_abbrev=False)
    made.add_argument("--root", metavar="DIR", default=state_root(),
        help="state root, also ATTACHD_ROOT (%(default)s)")  # fmt: skip
    made.add_argument("-V", "--version", action="version", version=f"{prog} {__version__}")
    return made


def end(prog: str, run: Callable[[], int]) -> NoReturn:
    """Run a program to its exit code; turn its errors into one line on stderr."""
    open_standard_descriptors()
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()
        code = 141  # whoever read our output has left: as a shell tells SIGPIPE
    except KeyboardInterrupt:
        code = 130  # ctrl-C while nobody had the signal: as a shell tells it
    except (AttachdError, TimeoutError) as error:
        print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
        code = FAILED
    sys.exit(code)


def warn_of_trouble(program: str, place: Place) -> None:
    """Say on stderr why a container may keep its client waiting, if that is known."""
    words = place.trouble_words
    if words:
        print(
            f"{program}: {place.id} may keep us waiting: {words}", file=sys.stderr, flush=True
        )
