"""attachd: a container runtime shim that is an attach-capable stdio multiplexing server."""

__version__ = "0.1.0"
