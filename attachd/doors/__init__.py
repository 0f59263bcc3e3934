"""What others speak: other shims' command lines, reports and sockets, in front of our own shim.

A door is not a second shim. It translates: words into a `attachd.keeper.config.Config`, what came
of the creation into its manager's report, the exit record into its manager's file.
"""
