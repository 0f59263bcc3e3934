"""The command line, environment, pipes and files of conmon 2.2, as Podman and CRI-O use them.

``words`` and ``options`` read the command line, ``checks`` and ``drivers`` refuse what cannot
work, ``main`` is the program. Podman up to 4.3 starts it three times for each container, twice
only for its version: nothing is imported here that such a start does not need.
"""
