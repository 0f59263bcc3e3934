"""``--log-path``: where a container's output is logged, in conmon's words for it.

Opens nothing: a driver is what was asked for.
"""

from collections.abc import Sequence
from typing import NamedTuple

from attachd.errors import ConmonError

K8S_FILE, JOURNALD, NONE, PASSTHROUGH = "k8s-file", "journald", "none", "passthrough"

_WORDS = {
    K8S_FILE: K8S_FILE,
    JOURNALD: JOURNALD,
    NONE: NONE,
    "off": NONE,
    "null": NONE,
    PASSTHROUGH: PASSTHROUGH,
}

#: journald is also given the first twelve characters, so there must be more of them.
SHORT_ID = 12

_LABEL_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class Driver(NamedTuple):
    """One log: ``k8s-file`` with the path of its file, or another driver without a path."""

    driver: str  #: "k8s-file", "journald", "none" or "passthrough"
    path: str = ""


def parse_drivers(log_paths: Sequence[str]) -> tuple[Driver, ...]:
    """Return what all ``--log-path`` ask for together, each driver once; never empty.

    Of two files the last one counts. ``none`` is only there when it is alone: it adds no log,
    and takes none away. Raises ConmonError.
    """
    if not log_paths:
        raise _error("Log driver not provided. Use --log-path")
    found = {name: Driver(name, path) for name, path in map(_parse_driver, log_paths)}
    if len(found) > 1:
        found.pop(NONE, None)
    return tuple(found.values())


def _parse_driver(log_path: str) -> Driver:
    """Return the driver in ``DRIVER:PATH``, ``DRIVER``, ``:PATH`` or ``PATH``.

    conmon takes it apart with strtok(3): colons in a row are one, and what comes after the
    second part is ignored.
    """
    parts = [part for part in log_path.split(":") if part]
    if not parts:
        raise _error("log-path must not be empty")
    word = parts[0]
    if len(parts) == 1 and log_path.startswith(":"):
        return Driver(K8S_FILE, word)
    if word not in _WORDS:
        if ":" in log_path:
            raise _error(f"No such log driver {word}")
        return Driver(K8S_FILE, word)
    if _WORDS[word] != K8S_FILE:
        return Driver(_WORDS[word])
    if len(parts) == 1:
        raise _error("k8s-file requires a filename")
    return Driver(K8S_FILE, parts[1])


def check_fields(drivers: Sequence[Driver], cid: str, tag: str, labels: Sequence[str]) -> None:
    """Refuse a tag or labels that no log would have, and an id too short for journald.

    A k8s-file has neither; without it and without journald they are ignored. Raises
    ConmonError.
    """
    names = {driver.driver for driver in drivers}
    if JOURNALD in names:
        if len(cid.encode("utf-8", "surrogateescape")) <= SHORT_ID:
            raise _error(f"Container ID must be longer than {SHORT_ID} characters")
        for label in labels:
            _check_label(label)
    elif K8S_FILE in names:
        if tag:
            raise _error("k8s-file doesn't support --log-tag")
        if labels:
            raise _error("k8s-file doesn't support --log-label")


def _check_label(label: str) -> None:
    name, equals, value = label.partition("=")
    if not equals or "=" in value:
        count = "more than one '='" if equals else "no '='"
        raise _error(f"Container labels must be in format LABEL=VALUE ({count} in '{label}')")
    if not name:
        raise _error(f"Container labels must be in format LABEL=VALUE (no name in '{label}')")
    if not set(name) <= _LABEL_NAME:
        raise _error(
            "Container label names must contain only uppercase letters, numbers and underscore"
            f" (in '{label}')"
        )


def _error(text: str) -> ConmonError:
    return ConmonError(f"[conmon:e]: {text}")
