"""Recovery: a container whose shim is gone, keeper and server, is taken up again.

What lives on without us is the container and its output pipes, whose reading ends it has, too
(`keeper.descriptors.make_lasting_pipes`). ``taking_up.recover`` reads top to bottom.
"""
