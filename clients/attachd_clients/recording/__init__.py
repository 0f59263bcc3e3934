"""Recordings of containers: made from their output at any offset, and played.

`recorder` and `casts` are pure: events in, lines out, and lines in, events out. `job` attaches
and writes, `player` waits and shows; docs/recording.md is for people.
"""
