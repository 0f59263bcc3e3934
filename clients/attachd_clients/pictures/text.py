"""A picture as text: what a person would read from the screen."""

from attachd_clients.pictures.cells import Picture


def text(picture: Picture) -> str:
    """Return the rows down to the last one that has anything, without blanks at their ends."""
    lines = "\n".join(picture.lines).rstrip("\n")
    return f"{lines}\n" if lines else ""
