"""A cursor: a small file that says up to where a follower has handled a container's output.

It is replaced whole, by rename: whoever is killed at any moment finds the old or the new one.
``memo`` is committed together with the position. A sink that keeps in it how much it has written
can cut itself back to that when it starts again: then nothing is in it twice.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from types import MappingProxyType

from attachd.errors import UsageError
from attachd_clients.lines import STREAMS, Position

#: What JSON can say; a memo should be small, since it is written at each save.
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_SCHEMA = 1
_NONE: Mapping[str, int] = MappingProxyType({})
_ASIDE = ".new"


class Cursor:
    """The cursor at ``path``; its directory must exist. One follower at a time may have it.

    Raises UsageError when there is a file that is no cursor, or that cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.stream_id = ""  #: the stream that the position belongs to; empty: none yet
        self.position: Position | None = None  #: None: nothing was handled
        self.memo: Json = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path + _ASIDE)  # of one who was killed while saving
        self._load()

    def save(
        self, position: Position | None, memo: Json = None, *, sync: bool = False
    ) -> None:
        """Commit that all before ``position`` was handled; with ``sync`` also to the disk.

        Without ``sync`` it survives the end of the process, but not that of the machine. Raises
        OSError when it cannot be written; then the old one is still there.
        """
        self.position, self.memo = position, memo
        aside = self.path + _ASIDE
        with open(aside, "w", encoding="ascii") as file:
            json.dump(self._fields(), file)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(aside, self.path)
        if sync:
            _sync_directory(os.path.dirname(self.path) or ".")

    def adopt(self, stream_id: str, former: Mapping[str, int] = _NONE) -> None:
        """Belong to ``stream_id`` from now on; a position in another stream means nothing.

        But one of ``former`` is the same output up to that offset: there it goes on. The memo
        stays: it is about the sink. The next ``save`` commits this.
        """
        before, self.stream_id = self.stream_id, stream_id
        if before in ("", stream_id) or self.position is None:
            return
        if before not in former:
            self.position = None
        elif self.position.furthest > former[before]:
            self.position = Position(former[before], {})

    def _fields(self) -> dict[str, object]:
        at = self.position
        return {
            "schema": _SCHEMA,
            "stream_id": self.stream_id,
            "offset": at.offset if at else None,
            "ahead": dict(at.ahead) if at else {},
            "memo": self.memo,
        }

    def _load(self) -> None:
        try:
            with open(self.path, "rb") as file:
                fields = json.load(file)
            if fields["schema"] != _SCHEMA:
                raise ValueError
            self.stream_id, self.memo = str(fields["stream_id"]), fields["memo"]
            self.position = _position(fields["offset"], fields["ahead"])
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UsageError(f"cannot read the cursor {self.path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(
                f"{self.path} is no cursor: remove it to begin at the start"
            ) from None


def _position(offset: object, ahead: dict[str, object]) -> Position | None:
    """Return what a file says; raises ValueError when it says nothing sensible."""
    if offset is None:
        return None
    told = {stream: at for stream, at in ahead.items() if stream in STREAMS}
    if told.keys() != ahead.keys() or not all(map(_is_offset, (offset, *told.values()))):
        raise ValueError("no position")
    assert isinstance(offset, int)
    return Position(offset, {stream: int(str(at)) for stream, at in told.items()})


def _is_offset(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _sync_directory(path: str) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
