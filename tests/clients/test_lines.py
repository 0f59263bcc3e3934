"""Lines: against a model that looks at one byte at a time, for any cut and any point to go on."""

from attachd_clients.lines import MAX_LINE, STREAMS, Line, Lines, Position, trim
from hypothesis import given
from hypothesis import strategies as st

from attachd.wire import messages as say

#: One stream says something, or both lose some bytes (the text tells how many).
Said = tuple[str, bytes]

#: Few letters, many newlines; sometimes lines around the limit, which every piece depends on.
TEXTS = st.one_of(
    st.text("ab\n\n", min_size=1, max_size=9).map(str.encode),
    st.sampled_from([MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 2 * MAX_LINE, 2 * MAX_LINE + 1])
    .flatmap(lambda size: st.sampled_from([b"", b"\n"]).map(lambda end: b"x" * size + end)),
)  # fmt: skip
SAID = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr", "stderr", "gap"]), TEXTS), max_size=8
)


def events(said: list[Said], cuts: list[int]) -> list[say.Output | say.Gap]:
    """What a server tells of ``said``, in messages of the sizes ``cuts``."""
    found: list[say.Output | say.Gap] = []
    offset, turn = 0, 0
    for number, (stream, data) in enumerate(said):
        if stream == "gap":
            found.append(say.Gap(start=offset, end=offset + len(data)))
            offset += len(data)
        while data and stream != "gap":
            size = cuts[turn % len(cuts)]
            turn += 1
            found.append(
                say.Output(offset=offset, stream=stream, time=number + 1, data=data[:size])
            )
            offset += len(data[:size])
            data = data[size:]
    return found


def told(lines: Lines, happened: list[say.Output | say.Gap]) -> list[Line]:
    """All that ``lines`` makes of events and of the end of both streams."""
    return [line for event in happened for line in feed(lines, event)] + lines.flush()


def feed(lines: Lines, event: say.Output | say.Gap) -> list[Line]:
    return lines.feed(event) if isinstance(event, say.Output) else lines.skip(event)


def event_end(event: say.Output | say.Gap) -> int:
    return event.end if isinstance(event, say.Gap) else event.offset + len(event.data)


def after(happened: list[say.Output | say.Gap], offset: int) -> list[say.Output | say.Gap]:
    """What a server tells from ``offset`` on."""
    found: list[say.Output | say.Gap] = []
    for event in happened:
        if isinstance(event, say.Gap):
            if event.end > offset:
                found.append(say.Gap(start=max(offset, event.start), end=event.end))
        else:
            rest = trim(event, dict.fromkeys(STREAMS, offset))
            found += [rest] if rest else []
    return found


def model(said: list[Said]) -> list[tuple[int, str, int, bytes, bool]]:
    """The lines, by one byte at a time: (offset, stream, time, text, partial)."""
    found = []
    current: dict[str, tuple[int, int, bytes]] = {}
    offset = 0

    def end_all() -> None:
        for stream, (start, time, text) in sorted(current.items(), key=lambda x: x[1][0]):
            found.append((start, stream, time, text, True))
        current.clear()

    for number, (stream, data) in enumerate(said):
        if stream == "gap":
            end_all()
            offset += len(data)
            continue
        for byte in data:
            start, time, text = current.pop(stream, (offset, number + 1, b""))
            if byte == 10:
                found.append((start, stream, time, text, False))
            elif len(text) == MAX_LINE:
                found.append((start, stream, time, text, True))
                current[stream] = (offset, number + 1, bytes([byte]))
            else:
                current[stream] = (start, time, text + bytes([byte]))
            offset += 1
    end_all()
    return found


CUTS = st.lists(st.sampled_from([1, 2, 3, 5, 1000, MAX_LINE, 1 << 20]), min_size=1, max_size=5)
SMALL = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr", "gap"]),
        st.text("ab\n\n", min_size=1, max_size=9).map(str.encode),
    ),
    max_size=12,
)


@given(st.one_of(SMALL, SAID), CUTS.filter(lambda cuts: min(cuts) > 3))
def test_lines_are_those_of_a_model_that_reads_bytes(said, cuts) -> None:
    """Whole lines, pieces at 16 KiB, pieces at gaps and at the end, each with its first byte's
    offset and time."""
    lines = told(Lines(), events(said, cuts))

    assert [line[:5] for line in lines] == model(said)


@given(SMALL, CUTS, CUTS)
def test_how_output_was_cut_into_messages_changes_nothing(said, cuts, others) -> None:
    """Neither the lines nor where to go on after each."""
    first, second = (told(Lines(), events(said, each)) for each in (cuts, others))

    assert first == second
    assert [line.position for line in first] == [line.position for line in second]


@given(
    st.one_of(SMALL, SAID),
    st.lists(st.sampled_from([4, 1000, 1 << 20]), min_size=1),
    st.data(),
)
def test_a_follower_that_starts_at_a_line_s_position_gets_the_rest(said, cuts, data) -> None:
    """Exactly the lines that would have come, none twice, none lost; wherever it is killed."""
    happened = events(said, cuts)
    lines = told(Lines(), happened)
    for number, line in enumerate(lines):
        position = line.position
        rest = after(happened, position.offset)

        assert told(Lines(position), rest) == lines[number + 1 :]
        assert all(offset > position.offset for offset in position.ahead.values())


@given(SMALL, CUTS)
def test_a_position_is_right_at_any_time(said, cuts) -> None:
    """Not only behind a line: after any message, and of a follower that has just gone on."""
    happened = events(said, cuts)
    lines = Lines()
    for stop in range(len(happened) + 1):
        position = lines.position
        again = Lines(position)
        rest = after(happened, position.offset)
        before = sum(event_end(event) <= event_end(happened[stop - 1]) for event in rest)
        for event in rest[: before if stop else 0]:
            feed(again, event)

            assert again.position == position
        if stop < len(happened):
            feed(lines, happened[stop])


@given(SMALL, st.data())
def test_asked_for_what_is_open_a_follower_can_go_on_behind_it(said, data) -> None:
    """After a flush everything was told; what comes next begins behind it."""
    happened = events(said, [3])
    stop = data.draw(st.integers(0, len(happened)))
    lines = Lines()
    before = told(lines, happened[:stop])
    position = lines.position
    behind = told(Lines(position), after(happened, position.offset))

    assert not position.ahead
    assert told(lines, happened[stop:]) == behind
    texts = {
        s: b"".join(x.text + b"\n" * (not x.partial) for x in before + behind if x.stream == s)
        for s in STREAMS
    }
    assert texts == {
        s: b"".join(e.data for e in happened if isinstance(e, say.Output) and e.stream == s)
        for s in STREAMS
    }


@given(SMALL, st.sampled_from(STREAMS))
def test_one_stream_alone(said, wanted) -> None:
    """Lines of the wanted stream are what they are without the other one."""
    happened = events(said, [4])
    everything = told(Lines(), happened)
    lines = Lines(streams=[wanted])

    found = told(lines, happened)
    assert [line[:5] for line in found] == [x[:5] for x in everything if x.stream == wanted]
    ends = [event_end(event) for event in happened]
    assert lines.position == Position(max(ends, default=0))


def test_an_end_ends_one_stream_alone() -> None:
    """The other one's line stays open, and the position says that the first is ahead."""
    lines = Lines()
    lines.feed(say.Output(offset=0, stream="stdout", time=1, data=b"ab"))
    lines.feed(say.Output(offset=2, stream="stderr", time=2, data=b"cd"))
    (piece,) = lines.flush(["stderr"])

    assert piece[:5] == (2, "stderr", 2, b"cd", True)
    assert piece.position == lines.position == Position(0, {"stderr": 4})


def test_a_start_in_the_middle_is_a_start() -> None:
    """With ``tail`` or ``live`` the first output has any offset."""
    lines = Lines()
    (line,) = lines.feed(say.Output(offset=700, stream="stdout", time=1, data=b"ab\nc"))

    assert (line.offset, line.position, lines.position.offset) == (700, Position(703), 703)
