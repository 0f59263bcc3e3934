"""Doors: other command lines and sockets than our own, for the managers that people have.

A door is no second shim. Its launcher half translates a command line into a `keeper.config.Config`
and is birth's caller (`keeper.caller`); its server half is an entrance (`live.entrance`) beside
our own socket. What lies between them is the same as for everybody.

Doors have in common: ``guests`` at an attach socket, each a ``guest`` with its ``places`` in memory
that outlives a server, and ``ways``, the names by which the halves find each other's descriptors.
"""
