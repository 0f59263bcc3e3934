"""What is known: the header, the ring's index, stdin's account, log lines, phases, exit records.

No clock, no descriptor, no await. ``header``, ``ring`` and ``intake`` see memory only as a
``memoryview`` of 64-bit words, so that the keeper can import them without attrs.
"""
