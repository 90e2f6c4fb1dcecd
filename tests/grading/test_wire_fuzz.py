"""Fuzzing the trusted reader: a worker's bytes become a reply, a wait or `Malformed`; nothing crashes, hangs or swells.

Hypothesis draws the bytes. A coverage-guided fuzzer would need its native engine in every environment that runs the
tests; this reader is small enough for structured drawing to reach each of its refusals, which a test here counts.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnkit.grading import wire
from attnkit.grading.protocol import Broken, Channel, decode_failure, decode_reply, printed_text
from attnkit.lab.outcome import Answer, Failure

FAST = settings(deadline=None, database=None)
KINDS = {"raised", "not-implemented", "malformed", "missing"}
SEEDS = st.integers(0, 2**32)
EACH = 40  # messages made of one seed: drawing each of them by Hypothesis would take twenty times as long

# Text that is nearly JSON, which no encoder would write.
RAW = [
    b'{"id":1,"id":1,"arrays":[]}',
    b'{"id":1,"value":{"array":0,"array":0},"arrays":[["f4",[1]]]}',
    b'{"id":NaN,"arrays":[]}',
    b'{"id":Infinity,"arrays":[]}',
    b'{"id":1e999,"arrays":[]}',
    b'{"id":1,"failure":["raised","\\ud800",""],"arrays":[]}',
    b'{"id":1,"failure":["raised","\\u0000\\u001b[2J",""],"arrays":[]}',
    b'{"id":' + b"9" * 4000 + b',"arrays":[]}',
    b'{"id":' + b"9" * 5000 + b',"arrays":[]}',
    b'{"arrays":' + b"[" * 16_000,
    b'{"a":' * 6_000 + b"1" + b"}" * 6_000,
    b"[" * 32_000 + b"]" * 700,
    b"\xff\xfe\xfd",
    b'\xef\xbb\xbf{"id":1,"arrays":[]}',
    b'{"id":1,"value":{"array":0},"arrays":[["f8",[8388608]]]}',
    b'{"id":1,"value":{"array":0},"arrays":[["f8",[8388609]]]}',
    b'{"id":1,"value":{"tuple":[]},"arrays":[]} ',
    b'{"id":1,"arrays":[' + b'["b1",[0]],' * 255 + b'["b1",[0]]]}',
    b'{"id":1,"arrays":[' + b'["b1",[0]],' * 256 + b'["b1",[0]]]}',
]


def framed(head: bytes, body: bytes = b"") -> bytes:
    return len(head).to_bytes(4, "big") + head + body


def scalar(draw: random.Random) -> object:
    """A number (also one that no machine word holds), a text or a constant of JSON."""
    numbers = [0, 1, 2, -1, 3, 2**31, 2**63, 2**64, 10**400, -(10**400), 0.5, 1e300]
    return draw.choice([*numbers, None, True, False, "", "f4", "array", "é", "\ud800", "\x1b[2J", "a" * 900])


def anything(draw: random.Random, depth: int = 3) -> object:
    """Any JSON."""
    kind = draw.random() if depth else 0
    if kind < 0.5:
        return scalar(draw)
    if kind < 0.75:
        return [anything(draw, depth - 1) for _ in range(draw.randrange(4))]
    keys = ["array", "number", "tuple", "held", "text", "id"]
    return {draw.choice(keys): anything(draw, depth - 1) for _ in range(draw.randrange(3))}


def spec(draw: random.Random, depth: int = 3) -> object:
    """A value's description, or what nearly is one."""
    kind = draw.random()
    if kind < 0.2:
        return anything(draw)
    if kind < 0.5 and depth:
        return {"tuple": [spec(draw, depth - 1) for _ in range(draw.randrange(4))]}
    return {draw.choice(["array", "number"]): draw.choice([0, 0, 0, 1, 2, scalar(draw)])}


def described(draw: random.Random) -> object:
    """One array's description, or what nearly is one."""
    if draw.random() < 0.2:
        return anything(draw)
    shape = [draw.choice([0, 1, 2, 3, 2**25, scalar(draw)]) for _ in range(draw.choice([0, 1, 1, 2, 3, 9]))]
    return [draw.choice([*wire.DTYPES, *wire.DTYPES, "O", "c8", "", scalar(draw)]), shape]


def header(draw: random.Random) -> object:
    """A reply's header, or what nearly is one."""
    if draw.random() < 0.05:
        return anything(draw)
    head: dict[str, object] = {"id": draw.choice([1, 1, 1, 1, scalar(draw)])}
    head["arrays"] = draw.choice(
        [[described(draw) for _ in range(draw.randrange(4))], [["f4", [1]]], [], anything(draw)]
    )
    if draw.random() < 0.8:
        head["value"] = spec(draw)
    if draw.random() < 0.3:
        words = [*KINDS, "died", "timeout", scalar(draw)]
        head["failure"] = draw.choice([[draw.choice(words), scalar(draw), "line 1"], anything(draw)])
    if draw.random() < 0.5:
        head["changed"] = draw.choice([[], [0], [1, 0], [2], [True], anything(draw)])
    return head


def frame_bytes(draw: random.Random) -> bytes:
    """A message that is right, nearly right, or made of what its parts could be."""
    kind, body = draw.random(), draw.randbytes(draw.randrange(40))
    if kind < 0.2:
        codes = [draw.choice(sorted(wire.DTYPES)) for _ in range(draw.randrange(4))]
        arrays = [np.ones(draw.choice([(), (0,), (2,), (2, 0, 3), (1, 2)]), wire.DTYPES[code]) for code in codes]
        return wire.pack({"id": 1, "value": {"tuple": [{"array": place} for place in range(len(arrays))]}}, arrays)
    if kind < 0.3:
        return framed(draw.choice(RAW), body)
    text = json.dumps(header(draw), ensure_ascii=draw.random() < 0.5)
    return framed(text.encode("utf-8", "surrogatepass"), body)


def message(draw: random.Random) -> bytes:
    """A message, perhaps with bytes changed, cut out, put in twice, or cut off."""
    data = bytearray(frame_bytes(draw))
    for _ in range(draw.choice([0, 0, 1, 2, 4])):
        place, how = draw.randrange(max(1, min(len(data), draw.choice([4, 60, 40_000])))), draw.randrange(5)
        if how == 0 and data:
            data[place] = draw.randrange(256)
        elif how == 1:
            del data[place : place + draw.randrange(1, 6)]
        elif how == 2:
            data[place:place] = draw.randbytes(draw.randrange(6))
        elif how == 3:
            data[place:place] = data[place : place + draw.randrange(1, 20)]
        elif draw.random() < 0.5:
            del data[place:]
    return bytes(data)


def cut(data: bytes, draw: random.Random) -> list[bytes]:
    """The data in pieces."""
    ends = sorted({draw.randrange(len(data) + 1) for _ in range(draw.randrange(6))} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def read(pieces: list[bytes]) -> Answer | Failure | None:
    """What the trusted side makes of the pieces; None while it waits for more. Checks what it holds meanwhile."""
    parser, fed = wire.Parser(), 0
    for piece in pieces:
        fed += len(piece)
        try:
            frame = parser.feed(piece)
        except wire.Malformed as error:
            return Failure("malformed", str(error))
        assert len(parser._buffer) <= fed, "what was announced is not set aside before it comes"
        if frame is not None:
            return decode_reply(frame, 1, ["x", "y"])
    return None


def check(reply: Answer | Failure | None) -> None:
    """Only what a reply may be: plain arrays and floats, a known kind, short printable text."""
    if isinstance(reply, Failure):
        assert reply.kind in KINDS
        for text in (reply.message, reply.where):
            assert len(text) <= 600
            assert all(one.isprintable() or one == "\n" for one in text)
    elif isinstance(reply, Answer):
        values = reply.value if isinstance(reply.value, tuple) else (reply.value,)
        assert all(type(value) is float or type(value) is np.ndarray for value in values)
        assert all(value.dtype in wire.DTYPES.values() for value in values if type(value) is np.ndarray)
        assert set(reply.changed) <= {"x", "y"}
    else:
        assert reply is None


@given(SEEDS)
@settings(FAST, max_examples=250)
def test_any_message_however_it_is_cut_gives_a_reply_or_a_wait(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(EACH):
        data = message(draw)
        whole, again = read([data]), read(cut(data, draw))
        check(whole)
        check(again)
        assert type(again) is type(whole), "the pieces in which it comes make no difference"
        if isinstance(whole, Failure):
            assert again == whole


@given(SEEDS)
@settings(FAST, max_examples=100)
def test_one_message_after_another_never_confuses_the_reader(seed: int) -> None:
    draw = random.Random(seed)
    parser, fed = wire.Parser(), 0
    try:
        for _ in range(10):
            data = message(draw)
            fed += len(data)
            frame = parser.feed(data)
            if frame is not None:
                check(decode_reply(frame, 1, ["x", "y"]))
    except wire.Malformed:
        return
    assert len(parser._buffer) <= fed


@given(SEEDS)
@settings(FAST, max_examples=50)
def test_any_account_of_a_failure_is_a_failure(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(EACH):
        check(decode_failure(anything(draw)))
        check(decode_failure([scalar(draw) for _ in range(draw.randrange(5))]))


@given(st.binary(max_size=300), st.booleans())
@settings(FAST, max_examples=500)
def test_any_output_is_text(data: bytes, is_cut: bool) -> None:
    text = printed_text(data, is_cut, 50)
    assert all(one.isprintable() or one == "\n" for one in text)
    assert len(text) < 100


def test_the_drawing_reaches_answers_failures_waits_and_every_refusal() -> None:
    """The fuzzing above would pass on a reader that refuses everything, or with bytes that all fail at once."""
    seen: set[str] = set()
    draw = random.Random(0)
    for _ in range(10_000):
        reply = read([message(draw)])
        seen.add(type(reply).__name__)
        if isinstance(reply, Failure):
            seen.add("".join(one for one in reply.message if not one.isdigit()))
    expected = {"Answer", "Failure", "NoneType", "a header of  bytes", "bad JSON (ValueError)", "no list of arrays, or"}
    expected |= {
        "bad JSON (RecursionError)",
        "an array's description",
        "a dtype that does not travel",
        "more than  MiB",
    }
    expected |= {
        "an array's shape",
        "an array's size",
        "a header that is no object",
        "The worker answered another quest",
    }
    expected |= {
        f"The worker sent {text}" for text in ("a value in no known", "a number that is an", "a list of changed")
    }
    expected |= {f"The worker sent a failure {text}" for text in ("in no known form", "of no known kind")}
    assert {one for one in expected if not any(found.startswith(one) for found in seen)} == set()


def test_a_message_that_announces_much_takes_only_what_has_come() -> None:
    head = json.dumps({"id": 1, "arrays": [["f8", [2**23]]]}).encode()
    parser = wire.Parser()
    tracemalloc.start()
    try:
        assert parser.feed(framed(head, b"x" * 1000)) is None
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# --- through the pipes ------------------------------------------------------------------------------------------------


class Played:
    """A channel whose worker is played by a thread: it waits for the request, then writes what it was given."""

    def __init__(self, pieces: list[bytes], pause: float = 0.0, close: bool = True, early: bytes = b"") -> None:
        self.requests, requests = os.pipe()
        replies, self.replies = os.pipe()
        output, self.output = os.pipe()
        self.channel = Channel(requests, replies, output)
        self.pieces, self.pause, self.ends = pieces, pause, close
        os.write(self.replies, early)
        self.thread = threading.Thread(target=self._play, daemon=True)
        self.thread.start()

    def _play(self) -> None:
        os.read(self.requests, 1 << 16)
        try:
            for piece in self.pieces:
                os.write(self.output, piece[:20])
                os.write(self.replies, piece)
                time.sleep(self.pause)
        except OSError:
            pass  # the channel is closed: nobody listens any more
        if self.ends:
            os.close(self.replies)

    def close(self) -> None:
        self.channel.close()
        self.thread.join(5)
        assert not self.thread.is_alive()
        for descriptor in (self.requests, self.output, *(() if self.ends else (self.replies,))):
            os.close(descriptor)


def asked(played: Played, seconds: float) -> Answer | Failure:
    try:
        frame = played.channel.ask({"id": 1}, [np.zeros(3, np.float32)], seconds)
    except Broken as broken:
        return broken.failure
    return decode_reply(frame, 1, ["x", "y"])


@given(SEEDS)
@settings(FAST, max_examples=600)
def test_any_bytes_through_the_pipes_give_a_reply_in_time(seed: int) -> None:
    draw = random.Random(seed)
    played = Played([piece for piece in cut(message(draw), draw) if piece])
    start = time.monotonic()
    try:
        reply = asked(played, 5.0)
        again = asked(played, 5.0)
    finally:
        played.close()
    assert time.monotonic() - start < 5, "the pipe is closed: there is nothing to wait for"
    assert isinstance(reply, Answer | Failure)
    if isinstance(reply, Failure):
        assert reply.kind in {*KINDS, "died"}
    assert isinstance(again, Failure), "nothing more can come"


@given(SEEDS)
@settings(FAST, max_examples=50)
def test_a_reply_before_its_question_is_never_taken(seed: int) -> None:
    played = Played([], early=frame_bytes(random.Random(seed)))
    try:
        reply = asked(played, 5.0)
    finally:
        played.close()
    assert isinstance(reply, Failure)
    assert reply.kind == "malformed"


@pytest.fixture
def slow_drip() -> Iterator[Played]:
    """A worker that sends a byte of an endless message now and then, and never lets go."""
    message = framed(json.dumps({"id": 1, "value": {"array": 0}, "arrays": [["f8", [2**20]]]}).encode())
    played = Played([bytes([one]) for one in message] * 50, pause=0.002, close=False)
    yield played
    played.close()


def test_a_slow_drip_ends_at_the_deadline(slow_drip: Played) -> None:
    start = time.monotonic()
    reply = asked(slow_drip, 0.3)
    assert isinstance(reply, Failure)
    assert reply.kind == "timeout"
    assert time.monotonic() - start < 2
