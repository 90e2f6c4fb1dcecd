"""Deadlines on both directions, and replies out of turn, against a child played by the test itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from attnkit.grading import wire
from attnkit.grading.protocol import Broken, Channel, printed_text


class Child:
    """The other ends of a channel's pipes."""

    def __init__(self) -> None:
        self.requests, requests = os.pipe()
        replies, self.replies = os.pipe()
        output, self.output = os.pipe()
        self.channel = Channel(requests, replies, output)

    def act(self, what: Callable[[], object]) -> None:
        """Do something a moment after the parent has asked."""
        threading.Timer(0.05, what).start()

    def close(self) -> None:
        self.channel.close()
        for descriptor in (self.requests, self.replies, self.output):
            try:
                os.close(descriptor)
            except OSError:
                continue


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.close()


def outcome(child: Child, seconds: float = 2.0, size: int = 1) -> str:
    """What asking comes to: "reply", or the kind of failure."""
    try:
        child.channel.ask({"id": 1}, [np.zeros(size, "u1")], seconds)
    except Broken as broken:
        return broken.failure.kind
    return "reply"


REPLY = wire.pack({"id": 1}, [])


def test_a_reply_in_turn(child: Child) -> None:
    child.act(lambda: os.write(child.replies, REPLY))
    assert outcome(child) == "reply"


def test_silence_is_a_timeout_and_stays_one(child: Child) -> None:
    start = time.monotonic()
    assert outcome(child, 0.2) == "timeout"
    assert time.monotonic() - start < 1.5
    os.write(child.replies, REPLY)  # too late: it must not be taken for the answer to the next question
    assert outcome(child) == "timeout"


def test_a_reader_that_stops_reading_does_not_block_the_parent(child: Child) -> None:
    start = time.monotonic()
    assert outcome(child, 0.3, size=2**22) == "timeout"  # far more than a pipe holds
    assert time.monotonic() - start < 1.5


def test_an_end_is_died(child: Child) -> None:
    child.act(lambda: os.close(child.replies))
    assert outcome(child) == "died"


def test_a_reply_before_the_question_is_refused(child: Child) -> None:
    os.write(child.replies, REPLY)
    assert outcome(child) == "malformed"


def test_two_replies_are_refused(child: Child) -> None:
    child.act(lambda: os.write(child.replies, REPLY + REPLY))
    assert outcome(child) == "malformed"


def test_half_a_reply_is_a_timeout(child: Child) -> None:
    child.act(lambda: os.write(child.replies, REPLY[:-1]))
    assert outcome(child, 0.4) == "timeout"


def test_endless_output_is_drained_and_capped(child: Child) -> None:
    stop = threading.Event()

    def babble() -> None:
        for _ in range(40):
            os.write(child.output, b"spam" * 10_000)
        stop.set()
        os.write(child.replies, REPLY)

    child.act(babble)
    assert outcome(child, 5.0) == "reply"
    assert stop.is_set()
    assert len(child.channel.printed) == 64 * 1024
    assert child.channel.output().endswith("spam\n(the rest of what it printed is cut)")


def test_output_is_whole_when_it_fits_and_says_when_it_is_cut(child: Child) -> None:
    os.write(child.output, b"a" * 1999)
    assert child.channel.output() == "a" * 1999
    os.write(child.output, b"bc")
    assert child.channel.output() == "a" * 1999 + "b\n(the rest of what it printed is cut)"


def test_output_is_shown_as_a_terminal_shows_it_without_its_commands() -> None:
    progress = (
        b"  0%|   |\r 50%|#  |\r100%|## |\nred \x1b[31;1mletters\x1b[0m\x1b]0;title\x07 \x1b[2Jend\x07\x00\tx\r\nlast"
    )
    assert printed_text(progress) == "100%|## |\nred letters end         x\nlast"
    assert printed_text("é\u202eabc".encode() + b"\xff") == "é abc�"
    assert printed_text(b"at 0x7f00aa11bb22") == printed_text(b"at 0x7f99887766aa")
