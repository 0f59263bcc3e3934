"""The storms: each module is one, with its own options."""
