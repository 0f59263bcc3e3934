"""The conmon door: its command line, pipes, attach socket, FIFOs and exit files (conmon(8)).

Launcher half: ``words`` and ``options`` parse, ``checks`` refuses, ``translation`` makes a Config,
``manager`` is who has called, ``launcher`` brings it together. Server half: ``entrance``, with
``control`` for the FIFOs and ``duties`` for the end.
"""
