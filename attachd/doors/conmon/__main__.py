#!/usr/bin/env python3
"""The program ``attachd-conmon``, installed as it is; also ``python -m attachd.doors.conmon``.

Not an entry point: the program that an installer writes for one imports ``re`` before us, and
that costs half as much as starting the interpreter.
"""

from attachd.doors.conmon.main import main

main()
