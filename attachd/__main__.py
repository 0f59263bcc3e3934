"""``python -m attachd``."""

from attachd.cli import main

main()
