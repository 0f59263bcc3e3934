"""Who may do what: the ids of a peer against what the container's maker has allowed.

Root and the maker may do everything. Others may as far as a policy names their user or one of
their groups; whoever is named twice has the greater right.
"""

from collections.abc import Collection
from typing import NamedTuple

FULL, VIEWER, NONE = "full", "viewer", ""


class Policy(NamedTuple):
    """Whom besides root and its maker a container is open to; ids as the kernel has them."""

    uids: tuple[int, ...] = ()  #: users who may do everything
    gids: tuple[int, ...] = ()  #: groups whose members may do everything
    viewer_gids: tuple[int, ...] = ()  #: groups whose members may only look

    @property
    def groups(self) -> tuple[int, ...]:
        """Every group that is named."""
        return (*self.gids, *self.viewer_gids)

    @property
    def opens(self) -> bool:
        """True when somebody is named."""
        return bool(self.uids or self.groups)


def right_of(uid: int, groups: Collection[int], own: int, policy: Policy) -> str:
    """Return FULL, VIEWER or NONE for a peer; ``own`` is the user whose container it is."""
    if uid in (0, own, *policy.uids) or not set(groups).isdisjoint(policy.gids):
        return FULL
    return NONE if set(groups).isdisjoint(policy.viewer_gids) else VIEWER


def why_not_role(uid: int, wanted: str, right: str, own: int) -> str:
    """Return why a peer that has this right may not have the role it wants; empty if it may."""
    if right == NONE:
        return f"user {uid} may not attach to a container of user {own}"
    if right == VIEWER and wanted != VIEWER:
        return f"user {uid} may only look at this container: attach --read-only (role viewer)"
    return ""
