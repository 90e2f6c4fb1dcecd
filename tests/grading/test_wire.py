"""The trusted reader: whatever bytes a worker sends become an answer or a failure, never an exception or a hang."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attnkit.grading import wire
from attnkit.grading.protocol import decode_failure, decode_reply, encode_value, plain
from attnkit.lab.outcome import Answer, Failure

ARRAYS = st.sampled_from(sorted(wire.DTYPES)).flatmap(
    lambda code: hnp.arrays(wire.DTYPES[code], hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
# JSON that is nearly a header: right keys, wrong values.
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("f4"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["array", "tuple", "number"]), inner),
    max_leaves=10,
)
HEADERS = st.dictionaries(st.sampled_from(["id", "value", "failure", "changed", "arrays"]), JUNK)


def framed(head: bytes, body: bytes = b"") -> bytes:
    return len(head).to_bytes(4, "big") + head + body


def read(data: bytes) -> Answer | Failure | None:
    """What the trusted side makes of `data`, as the channel does it; None while it waits for more."""
    parser = wire.Parser()
    try:
        frame = parser.feed(data)
    except wire.Malformed as error:
        return Failure("malformed", str(error))
    return None if frame is None else decode_reply(frame, 1, ["x", "y"])


@given(st.lists(ARRAYS, max_size=3), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_what_is_packed_comes_back_bit_for_bit_however_it_is_cut(arrays: list[np.ndarray], step: int) -> None:
    data = wire.pack({"id": 1, "note": "é"}, arrays)
    parser, frame = wire.Parser(), None
    for start in range(0, len(data), step):
        assert frame is None
        frame = parser.feed(data[start : start + step])
    assert frame is not None
    assert frame.header == {"id": 1, "note": "é"}
    assert not parser.pending
    for got, want in zip(frame.arrays, arrays, strict=True):
        assert (got.shape, got.dtype, got.tobytes()) == (want.shape, want.dtype, want.tobytes())


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_reply_or_a_wait(data: bytes) -> None:
    assert read(data) is None or isinstance(read(data), Answer | Failure)


@given(HEADERS, st.binary(max_size=64))
@settings(max_examples=400, deadline=None)
def test_any_header_gives_a_reply_or_a_wait(header: dict, body: bytes) -> None:
    reply = read(framed(json.dumps(header).encode(), body))
    assert reply is None or isinstance(reply, Answer | Failure)
    if isinstance(reply, Answer):
        values = reply.value if isinstance(reply.value, tuple) else (reply.value,)
        assert all(isinstance(value, np.ndarray | int | float) for value in values)


@pytest.mark.parametrize(
    "described",
    [
        [["f4", [-1]]],
        [["f4", [True]]],
        [["f4", [1.0]]],
        [["f4", ["2"]]],
        [["f4", [10**30]]],
        [["f4", [0, 10**30]]],
        [["f4", [10**6, 10**6, 0]]],
        [["f8", [2**24]]],
        [["f4", [1] * 9]],
        [["O", [1]]],
        [["c8", [1]]],
        [["f4", [1], "more"]],
        [["f4", [1]]] * (wire.MAX_ARRAYS + 1),
        {"f4": [1]},
        None,
        "f4",
    ],
)
def test_a_description_that_cannot_be_is_refused_before_a_byte_is_awaited(described: object) -> None:
    reply = read(framed(json.dumps({"id": 1, "value": {"array": 0}, "arrays": described}).encode()))
    assert isinstance(reply, Failure)
    assert reply.kind == "malformed"


@pytest.mark.parametrize(
    "head",
    [b"", b"{", b"[]", b"NaN", b'{"id": NaN, "arrays": []}', b"[" * 4000, b"\xff\xfe", b'{"a":' * 800, b"1" * 4096],
    ids=["empty", "cut", "list", "nan", "nan inside", "deep", "not text", "deep objects", "long number"],
)
def test_bad_json_is_malformed(head: bytes) -> None:
    reply = read(framed(head))
    assert isinstance(reply, Failure)
    assert reply.kind == "malformed"


def test_a_header_may_not_be_long() -> None:
    assert isinstance(read((2**32 - 1).to_bytes(4, "big")), Failure)
    assert isinstance(read((wire.MAX_HEADER + 1).to_bytes(4, "big")), Failure)
    assert read((wire.MAX_HEADER).to_bytes(4, "big")) is None


@pytest.mark.parametrize("number", [2, 0, "1", 1.0, True, None])
def test_a_reply_to_another_call_is_no_answer(number: object) -> None:
    data = framed(json.dumps({"id": number, "value": {"array": 0}, "arrays": [["b1", [1]]]}).encode(), b"\x01")
    assert isinstance(read(data), Failure)


def test_a_bool_array_of_strange_bytes_is_made_of_true_and_false() -> None:
    data = framed(json.dumps({"id": 1, "value": {"array": 0}, "arrays": [["b1", [3]]]}).encode(), b"\x00\x01\xff")
    reply = read(data)
    assert isinstance(reply, Answer)
    assert isinstance(reply.value, np.ndarray)
    assert reply.value.view("u1").tolist() == [0, 1, 1]


def test_a_worker_cannot_say_what_is_for_the_parent_to_tell() -> None:
    for kind in ("died", "timeout", "full marks", ""):
        assert decode_failure([kind, "", ""]).kind == "malformed"
    assert decode_failure(["raised", "ValueError: no\x1b[31m", "line 1"]).message == "ValueError: no [31m"
    assert decode_failure(["raised", 1, ""]).kind == "malformed"


def test_addresses_do_not_make_two_runs_differ() -> None:
    assert plain("<f at 0x7f00aa11bb22>") == plain("<f at 0x7f99887766aa>")
    assert len(plain("a" * 10_000)) <= 600


def test_values_that_are_no_arrays_travel_as_they_are() -> None:
    arrays: list[np.ndarray] = []
    spec = encode_value((None, "lower_right", True, 2, 0.5, np.arange(2)), arrays)
    assert [next(iter(one)) for one in spec["tuple"]] == ["none", "text", "number", "number", "number", "array"]
    assert [array.dtype.kind for array in arrays] == ["b", "i", "f", "i"]


def test_a_message_that_no_reader_would_take_is_not_sent() -> None:
    with pytest.raises(wire.Malformed):
        wire.pack({}, [np.array([None])])
    with pytest.raises(wire.Malformed):
        wire.pack({"text": "a" * wire.MAX_HEADER})
    with pytest.raises(ValueError, match="Out of range float"):
        wire.pack({"x": float("nan")})
