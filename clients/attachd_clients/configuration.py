"""What a person may set once for all: the detach keys, in the environment or a file.

``$XDG_CONFIG_HOME/attachd/config.toml`` (``~/.config`` by default), then
``/etc/attachd/config.toml``: the first one that names a setting wins.
"""

import os
import tomllib

from attachd.errors import UsageError
from attachd.state.keys import parse_keys

DEFAULT_KEYS = "ctrl-p,ctrl-q"

VARIABLE = "ATTACHD_DETACH_KEYS"

_SYSTEM = "/etc/attachd/config.toml"
_KNOWN = {"detach-keys"}


def detach_keys(option: str | None) -> bytes:
    """Return the keys that an option, the environment, a file or nobody names.

    Raises UsageError, which says where a broken one stands.
    """
    if option is not None:
        return parse_keys(option)
    if text := os.environ.get(VARIABLE):
        return _parse(text, VARIABLE)
    for path in _files():
        found = _read(path).get("detach-keys")
        if isinstance(found, str):
            return _parse(found, path)
        if found is not None:
            raise UsageError(f'{path}: detach-keys is a text, like "{DEFAULT_KEYS}"')
    return parse_keys(DEFAULT_KEYS)


def _files() -> tuple[str, str]:
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(home, "attachd", "config.toml"), _SYSTEM


def _parse(text: str, place: str) -> bytes:
    try:
        return parse_keys(text)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None


def _read(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            found: dict[str, object] = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path} is not TOML: {error}") from None
    if unknown := sorted(set(found) - _KNOWN):
        raise UsageError(f"{path}: there is no setting {unknown[0]!r:.40}, only detach-keys")
    return found
