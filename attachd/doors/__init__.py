"""Doors: other command lines and sockets than our own, for the managers that people have.

A door is no second shim. Its launcher half translates a command line into a `keeper.config.Config`
and is birth's caller (`keeper.caller`); its server half is an entrance (`live.entrance`) beside
our own socket. What lies between them is the same as for everybody.
"""
