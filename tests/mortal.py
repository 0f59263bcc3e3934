"""Words that die: a kill between any two stores."""


class Killed(BaseException):
    """SIGKILL, as the code sees it: not at all."""


class Words:
    """A memoryview of words that dies at the n-th store."""

    def __init__(self, words: memoryview, fuse: list[int]) -> None:
        self._words, self._fuse = words, fuse

    def __getitem__(self, at):
        found = self._words[at]
        return Words(found, self._fuse) if isinstance(at, slice) else found

    def __setitem__(self, at, value) -> None:
        self._fuse[0] -= 1
        if self._fuse[0] < 0:
            raise Killed
        self._words[at] = value
