"""The conmon door: its command line, pipes, attach socket, FIFOs and exit files (conmon(8)).

Launcher half: ``words`` and ``options`` parse, ``checks`` refuses, ``translation`` makes a Config,
``manager`` is who has called, ``launcher`` brings it together. Server half: ``entrance``, with
``guest`` for each client of the attach socket, ``control`` for the FIFOs, ``duties`` for the end.
``places`` is shared memory between them.
"""
