"""The door for managers that call a shim as conman calls shimmy (docs/shimmy.md)."""
