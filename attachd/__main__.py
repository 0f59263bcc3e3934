"""``python -m attachd``."""

from attachd.entry import main

main()
