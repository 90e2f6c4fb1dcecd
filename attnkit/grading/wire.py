"""Messages between the trusted process and a worker: a length, a JSON header, raw array bytes.

    4 bytes big-endian | header (JSON) | the arrays' bytes, little-endian, one after the other

Both sides load this file, the worker from inside the jail, so it holds the format and nothing else: standard library
and NumPy only. It never unpickles, evaluates or looks up a name. Whatever is wrong with a message is a `Malformed`.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np

PREFIX = 4
# A large module's weights: names and shapes of some two hundred arrays.
MAX_HEADER = 32 * 1024
MAX_BYTES = 64 * 2**20
MAX_ARRAYS = 256
MAX_NDIM = 8
DTYPES: dict[str, np.dtype[Any]] = {
    "f2": np.dtype("<f2"),
    "f4": np.dtype("<f4"),
    "f8": np.dtype("<f8"),
    "i1": np.dtype("<i1"),
    "i2": np.dtype("<i2"),
    "i4": np.dtype("<i4"),
    "i8": np.dtype("<i8"),
    "u1": np.dtype("<u1"),
    "b1": np.dtype("|b1"),
}


class Malformed(Exception):
    """A message breaks the format; the text says how, in a few words."""


class Frame(NamedTuple):
    """One message: its header without the arrays' description, and the arrays."""

    header: dict[str, Any]
    arrays: list[np.ndarray]


def dtype_code(dtype: np.dtype) -> str:
    """The wire's name of `dtype`, or `Malformed` when it does not travel."""
    code = f"{dtype.kind}{dtype.itemsize}"
    if code not in DTYPES:
        raise Malformed(f"an array of dtype {dtype}")
    return code


def pack(header: dict[str, Any], arrays: list[np.ndarray] | None = None) -> bytes:
    """The message's bytes. Raises `Malformed` when it is larger than a reader would take."""
    arrays = arrays or []
    described = [[dtype_code(array.dtype), list(array.shape)] for array in arrays]
    head = json.dumps({**header, "arrays": described}, allow_nan=False).encode()
    if len(head) > MAX_HEADER:
        raise Malformed(f"a header of {len(head)} bytes")
    if len(arrays) > MAX_ARRAYS or any(array.ndim > MAX_NDIM for array in arrays):
        raise Malformed("too many arrays or dimensions")
    if sum(array.nbytes for array in arrays) > MAX_BYTES:
        raise Malformed(f"more than {MAX_BYTES >> 20} MiB")
    body = [np.ascontiguousarray(array, DTYPES[dtype_code(array.dtype)]).tobytes() for array in arrays]
    return b"".join([len(head).to_bytes(PREFIX, "big"), head, *body])


class Parser:
    """Takes bytes as they come and gives frames. After a `Malformed` it is of no more use."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: dict[str, Any] | None = None
        self._shapes: list[tuple[str, tuple[int, ...], int]] = []
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether bytes of an unfinished message are waiting."""
        return bool(self._buffer) or self._head is not None

    def feed(self, data: bytes) -> Frame | None:
        """Add `data`; return the next frame once it is whole. Never holds more than a message and one read."""
        self._buffer += data
        if self._head is None and not self._read_head():
            return None
        if len(self._buffer) < self._size:
            return None
        frame = Frame(self._head or {}, self._read_arrays())
        self._head = None
        return frame

    def _read_head(self) -> bool:
        if len(self._buffer) < PREFIX:
            return False
        length = int.from_bytes(self._buffer[:PREFIX], "big")
        if not 2 <= length <= MAX_HEADER:
            raise Malformed(f"a header of {length} bytes")
        if len(self._buffer) < PREFIX + length:
            return False
        head = parse_json(bytes(self._buffer[PREFIX : PREFIX + length]))
        del self._buffer[: PREFIX + length]
        if not isinstance(head, dict):
            raise Malformed("a header that is no object")
        self._shapes = _described(head.pop("arrays", None))
        self._size = sum(size for _, _, size in self._shapes)
        if self._size > MAX_BYTES:
            raise Malformed(f"more than {MAX_BYTES >> 20} MiB")
        self._head = head
        return True

    def _read_arrays(self) -> list[np.ndarray]:
        arrays = []
        for code, shape, size in self._shapes:
            raw = bytes(self._buffer[:size])
            del self._buffer[:size]
            # Any byte may come in a bool array, and NumPy is undefined on values other than 0 and 1.
            flat = np.frombuffer(raw, "u1") != 0 if code == "b1" else np.frombuffer(raw, DTYPES[code])
            arrays.append(flat.reshape(shape).copy())
        return arrays


def parse_json(data: bytes) -> Any:
    """JSON without NaN, Infinity or a key twice in an object; every way to fail is a `Malformed`."""
    try:
        return json.loads(data, parse_constant=_no_constant, object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError, MemoryError) as error:
        raise Malformed(f"bad JSON ({type(error).__name__})") from None


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _described(arrays: Any) -> list[tuple[str, tuple[int, ...], int]]:
    if not isinstance(arrays, list) or len(arrays) > MAX_ARRAYS:
        raise Malformed("no list of arrays, or too many")
    return [_one_described(item) for item in arrays]


def _one_described(item: Any) -> tuple[str, tuple[int, ...], int]:
    if not (isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], list)):
        raise Malformed("an array's description")
    code, shape = item
    if code not in DTYPES:
        raise Malformed("a dtype that does not travel")
    # bool is an int to isinstance, and NumPy multiplies even the dimensions of an empty array
    if len(shape) > MAX_NDIM or any(type(dim) is not int or not 0 <= dim <= MAX_BYTES for dim in shape):
        raise Malformed("an array's shape")
    if math.prod(dim or 1 for dim in shape) > MAX_BYTES:
        raise Malformed("an array's size")
    return code, tuple(shape), math.prod(shape) * DTYPES[code].itemsize
