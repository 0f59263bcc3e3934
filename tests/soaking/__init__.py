"""The soak: containers whose every byte is known, and actors who do to them what users do.

`saying` is what they say, `boxes` the containers, `watching`, `doing`, `visiting` and `hurting`
what is done to them, `gauges` what they cost, `directing` the whole. It is used by
``scripts/soak`` at length and by tests in short.
"""
