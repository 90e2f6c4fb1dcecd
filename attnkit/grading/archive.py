"""Reading a zip file that may be hostile: straight into memory, member by member, nothing is ever extracted to disk.

So a path that climbs out of its folder climbs nowhere, and a link points at nothing; both are told, not followed.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MAX_MEMBERS = 20_000
MAX_DIRECTORY = 16 * 2**20
MAX_RATIO = 100
# Small members may be as repetitive as they like.
RATIO_FREE = 2**20
_END = b"PK\x05\x06"


class Refused(ValueError):
    """A zip file, or a member of one, is not read; the message says why."""


def members(path: Path, max_bytes: int) -> Iterator[tuple[str, str]]:
    """Each file in the zip as (name, why it is refused or ""). Raises `Refused` for the zip as a whole."""
    _check_directory(path)
    with _open(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, _why_not(info, max_bytes)


def read_member(path: Path, name: str, max_bytes: int) -> bytes:
    """The bytes of one member, never more than `max_bytes`, whatever the zip says of its size."""
    try:
        with _open(path) as archive, archive.open(name) as file:
            data = file.read(max_bytes + 1)
    except Refused:
        raise
    except Exception as error:  # a hostile member can make the library raise almost anything
        raise Refused(f"cannot be unpacked ({type(error).__name__})") from None
    if len(data) > max_bytes:
        raise Refused(f"larger than {max_bytes >> 20} MiB when unpacked")
    return data


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # the same
        raise Refused(f"not a zip file that can be read ({type(error).__name__})") from None


def _check_directory(path: Path) -> None:
    """Look at the size of the list of members before the library reads all of it into memory."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 65_557))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 20:
        raise Refused("not a zip file, or cut off")
    count, size = struct.unpack("<HI", tail[at + 10 : at + 16])
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        raise Refused(f"a zip of more than {MAX_MEMBERS} files; split it")


def _why_not(info: zipfile.ZipInfo, max_bytes: int) -> str:
    parts = PurePosixPath(info.filename.replace("\\", "/")).parts
    if ".." in parts or not parts or parts[0] == "/" or ":" in parts[0]:
        return "its path leads out of the zip"
    if len(info.filename) > 1000:
        return "its path is far too long"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "it is a link or a device, not a file" if kind != stat.S_IFDIR else "it is no file"
    if info.flag_bits & 1:
        return "it is encrypted"
    if info.file_size > max_bytes:
        return f"larger than {max_bytes >> 20} MiB when unpacked"
    if info.file_size > RATIO_FREE and info.file_size > MAX_RATIO * max(1, info.compress_size):
        return "it unpacks to far more than it is: a zip bomb"
    return ""
