"""Recovery: a container whose shim is gone, keeper and server, is taken up again.

What lives on without us is the container and its output pipes, which it holds open for reading,
too (`keeper.descriptors.make_pipes`). ``taking_up.recover`` reads top to bottom.
"""
