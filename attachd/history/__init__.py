"""What was: a container's log files, read back as output with its exact offsets.

For the server, in worker threads and never in the event loop, and for clients when there is no
server any more. It blocks, and it knows nothing of who asks.
"""
