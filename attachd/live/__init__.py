"""What happens: the server. Trio tasks that pump, log, feed stdin and talk to clients.

Everything a task needs to go on after the server was killed is in descriptors that the keeper
holds too; the objects here are views of them and may be lost at any instruction.
"""
