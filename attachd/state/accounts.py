"""Users and groups by name, as a container's own ``/etc/passwd`` and ``/etc/group`` have them."""

from collections.abc import Iterator
from typing import NamedTuple

from attachd.errors import Refused

#: uid_t and gid_t are 32 bits; the last number means "no change" (setreuid(2)).
MAX_ID = (1 << 32) - 2


class Account(NamedTuple):
    """Who a program runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def oci(self) -> dict[str, object]:
        """Return it as runtime-spec has it (config.md, "User")."""
        return {"uid": self.uid, "gid": self.gid, "additionalGids": list(self.groups)}


def find_account(user: str, passwd: str, group: str) -> Account:
    """Return who ``USER[:GROUP]`` is, names or numbers; raises Refused (``no_user``).

    ``passwd`` and ``group`` are the files' texts (passwd(5), group(5)). A number needs no entry.
    Without ``:GROUP`` the user's own groups count, as with login.
    """
    name, colon, wanted = user.partition(":")
    entry = _find(name, passwd)
    uid = _number(name) if entry is None else _number(entry[2])
    if uid is None:
        raise _unknown("user", name, passwd)
    if colon:
        found = _find(wanted, group)
        gid = _number(wanted) if found is None else _number(found[2])
        if gid is None:
            raise _unknown("group", wanted, group)
        return Account(uid, gid)
    if entry is None:
        return Account(uid, 0)
    gid = _number(entry[3])
    if gid is None:
        raise _unknown("group", entry[3], group)
    return Account(uid, gid, tuple(_groups_of(entry[0], group)))


def _find(name: str, text: str) -> list[str] | None:
    """Return the fields of the entry with this name, or else with this number."""
    entries = list(_entries(text))
    by_name = next((e for e in entries if e[0] == name), None)
    return by_name or next((e for e in entries if name and e[2] == name), None)


def _entries(text: str) -> Iterator[list[str]]:
    for line in text.split("\n"):  # splitlines() would split inside of names, too
        fields = line.split(":")
        if len(fields) >= 4 and fields[0]:
            yield fields


def _groups_of(name: str, group: str) -> Iterator[int]:
    for fields in _entries(group):
        number = _number(fields[2])
        if name in fields[3].split(",") and number is not None:
            yield number


def _number(text: str) -> int | None:
    digits = text.isascii() and text.isdigit() and len(text) <= 10
    return int(text) if digits and int(text) <= MAX_ID else None


def _unknown(kind: str, name: str, text: str) -> Refused:
    file = "/etc/passwd" if kind == "user" else "/etc/group"
    where = f"its {file} does not have it" if text else f"it has no {file}; give a number"
    return Refused("no_user", f"no {kind} {name!r:.80} in the container: {where}")
