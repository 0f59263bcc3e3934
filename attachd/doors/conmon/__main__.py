"""``python -m attachd.doors.conmon``."""

from attachd.doors.conmon.main import main

main()
