"""Frames against a list of payloads, cut at random places."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import FrameTooLarge, LocalProtocolError, RemoteProtocolError
from attachd.wire.frames import (
    LENGTH_BYTES,
    MAX_DATA,
    MAX_FRAME,
    FrameDecoder,
    encode_frame,
)

PAYLOADS = st.lists(st.binary(max_size=40), max_size=12)
CUTS = st.lists(st.integers(0, 600), max_size=20)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return ``data`` in pieces, some of them empty."""
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def drain(decoder: FrameDecoder) -> list[bytes]:
    """Return every whole payload that the decoder holds."""
    return list(iter(decoder.next_frame, None))


@given(payloads=PAYLOADS, places=CUTS)
def test_any_cutting_of_the_wire_gives_the_same_frames(
    payloads: list[bytes], places: list[int]
) -> None:
    """Frames come out as they went in, wherever the stream was cut."""
    decoder, got = FrameDecoder(), []
    for piece in cut(b"".join(map(encode_frame, payloads)), places):
        decoder.feed(piece)
        got += drain(decoder)

    assert got == payloads
    assert decoder.at_boundary


@given(payloads=PAYLOADS, places=CUTS)
def test_frames_can_wait_in_the_decoder(payloads: list[bytes], places: list[int]) -> None:
    """Whoever feeds everything first and asks afterwards gets the same."""
    decoder = FrameDecoder()
    for piece in cut(b"".join(map(encode_frame, payloads)), places):
        decoder.feed(piece)

    assert drain(decoder) == payloads


@given(payload=st.binary(min_size=1, max_size=40), missing=st.integers(1, 40))
def test_a_cut_frame_is_no_frame_and_no_boundary(payload: bytes, missing: int) -> None:
    """A peer that goes in the middle of a frame is told from one that goes between two."""
    wire = encode_frame(payload)
    decoder = FrameDecoder()
    decoder.feed(wire[: max(1, len(wire) - missing)])

    assert decoder.next_frame() is None
    assert not decoder.at_boundary

    decoder.feed(wire[max(1, len(wire) - missing) :])

    assert decoder.next_frame() == payload
    assert decoder.at_boundary


def test_frames_come_whole_from_single_bytes() -> None:
    """One byte at a time is a cutting like any other."""
    decoder, got = FrameDecoder(), []
    for byte in encode_frame(b"one") + encode_frame(b"") + encode_frame(b"three"):
        decoder.feed(bytes([byte]))
        got += drain(decoder)

    assert got == [b"one", b"", b"three"]


def test_a_frame_is_a_big_endian_length_and_its_payload() -> None:
    """The wire looks as protocol.md says, in every byte."""
    assert encode_frame(b"abc") == b"\x00\x00\x00\x03abc"
    assert encode_frame(b"") == b"\x00\x00\x00\x00"


def test_the_largest_frame_passes() -> None:
    """A payload of exactly the limit is sent and taken."""
    payload = bytes(MAX_FRAME)
    decoder = FrameDecoder()
    decoder.feed(encode_frame(payload))

    assert decoder.next_frame() == payload


def test_we_never_send_a_frame_over_the_limit() -> None:
    """A payload that the peer would refuse is our own mistake."""
    with pytest.raises(LocalProtocolError, match="1048577"):
        encode_frame(bytes(MAX_FRAME + 1))


@given(excess=st.integers(1, (1 << 32) - 1 - MAX_FRAME))
def test_a_length_over_the_limit_is_refused_before_its_payload(excess: int) -> None:
    """The four length bytes are enough; nothing announced is waited for or buffered."""
    decoder = FrameDecoder()
    decoder.feed((MAX_FRAME + excess).to_bytes(LENGTH_BYTES, "big"))

    with pytest.raises(FrameTooLarge):
        decoder.next_frame()
    with pytest.raises(FrameTooLarge):
        decoder.next_frame()


def test_frames_before_an_overlong_one_still_come() -> None:
    """What was said well is heard, and then the refusal."""
    decoder = FrameDecoder(limit=4)
    decoder.feed(encode_frame(b"good") + encode_frame(b"wrong"))

    assert decoder.next_frame() == b"good"
    with pytest.raises(FrameTooLarge, match="5 bytes, the limit is 4"):
        decoder.next_frame()


def test_too_large_is_the_peers_fault_and_has_a_code() -> None:
    """The goodbye that follows carries ``too_large``."""
    assert issubclass(FrameTooLarge, RemoteProtocolError)
    assert FrameTooLarge.code == "too_large"


def test_the_largest_data_leaves_room_for_its_envelope() -> None:
    """A message with MAX_DATA bytes fits a frame with much to spare."""
    assert MAX_DATA + 4096 < MAX_FRAME
