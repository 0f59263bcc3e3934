"""What others speak: the command lines and sockets of shims that managers already know.

A door is named by the first word after ``attachd`` (see ``attachd.entry``). It takes that
program's words, files and sockets and turns them into what the rooms below understand.
"""
