"""What must survive: birth, the keeper's loop, the runtime, and the descriptors.

Everything here is on the birth path: standard library only, no Trio, no attrs, values are
``NamedTuple``. ``birth.create`` reads top to bottom; ``keep.keep`` is what remains of it.
"""
