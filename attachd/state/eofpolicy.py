"""Who may close a container's stdin: what ``--stdin-eof`` chooses among.

``any``: whoever may write. ``once``: they, and the first writer by leaving. ``owner``: only who
holds the lease. ``never``: nobody. Closing means the same for all of them: after every byte that
was accepted before.
"""

ANY, ONCE, OWNER, NEVER = "any", "once", "owner", "never"

POLICIES = (ANY, ONCE, OWNER, NEVER)

#: What an open stdin of this policy is called in a welcome; the first clients know two of them.
STATES = {ANY: "open", ONCE: "once", OWNER: "owner", NEVER: "never"}


def why_not(policy: str, *, holds: bool) -> str:
    """Return why a client that does or does not hold the lease may not close stdin, or ""."""
    if policy == NEVER:
        return "this container's stdin stays open (--stdin-eof never)"
    if policy == OWNER and not holds:
        return "only who holds the lease may close this container's stdin (--stdin-eof owner)"
    return ""
