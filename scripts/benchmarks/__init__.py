"""The parts of `scripts/bench`; each has a HEADER, and rows that it measures one by one."""
