"""The shimmy door: conman's call, its sync pipe, attach file and exit file (docs/shimmy.md).

Launcher half: ``words`` parses, ``options`` makes a Config, ``manager`` is who has called, ``main``
brings it together. Server half: ``entrance``, with ``speech`` for its guests. ``formats`` is what
conman reads, ``wishes`` what one half tells the other.
"""
