"""The opening for others: a container's socket, and the way to it, and nothing else.

Without a policy that names somebody, nothing is opened. With one, exactly those who are named
get through, by access control lists (acl(5)): they may connect to the socket and pass through
its directory, but list and read nothing there. The state root lets everybody pass, since each
directory in it has its own guard; whether a container of some name is there can be tried out.
"""

import errno
import os
import stat
import struct

from attachd.errors import UsageError
from attachd.keeper import files
from attachd.state.rights import Policy

#: linux/posix_acl_xattr.h: a version, then for each entry a tag, its permissions and an id.
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_NAME = "system.posix_acl_access"

_PASS, _CONNECT = 0o1, 0o6


def open_to(policy: Policy, root: str, directory: int) -> None:
    """Open the socket in ``directory``, below ``root``, to those whom the policy names.

    Raises OSError, or UsageError where the file system has no access control lists.
    """
    if not policy.opens:
        return
    path = f"/proc/self/fd/{directory}"
    try:
        os.setxattr(f"{path}/{files.SOCKET}", _NAME, _acl(policy, 0o6, _CONNECT))
        os.setxattr(path, _NAME, _acl(policy, 0o7, _PASS))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        raise UsageError(
            f"{root} is on a file system without access control lists, by which"
            " --allow-uid, --allow-gid and --viewers-gid let others in"
        ) from None
    _let_through(root)


def _let_through(root: str) -> None:
    """Have everybody pass through a root of ours; somebody else's is theirs to open."""
    found = os.stat(root)
    if found.st_uid == os.geteuid():
        os.chmod(root, stat.S_IMODE(found.st_mode) | 0o011)


def _acl(policy: Policy, own: int, theirs: int) -> bytes:
    """Return a list that gives ``own`` to the owner and ``theirs`` to who is named."""
    entries = [
        (_OWNER, own, _NO_ID),
        *((_USER, theirs, uid) for uid in sorted(set(policy.uids))),
        (_OWNING_GROUP, 0, _NO_ID),
        *((_GROUP, theirs, gid) for gid in sorted(set(policy.groups))),
        (_MASK, theirs, _NO_ID),
        (_OTHER, 0, _NO_ID),
    ]
    return _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries)
