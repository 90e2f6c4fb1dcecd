"""Where a measurement of a GPU comes from: device, driver, versions, and the state of the sources."""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import torch

from attnkit.bench.report import Stamp, stamp, version_of

PACKAGE = Path(__file__).resolve().parents[2]
UNKNOWN = "unknown"

# Of `kernels/`: what compiles, predicts and offers kernels, and so has no part in how fast they are.
NOT_MEASURED = ("aot*.py", "commands.py", "flash_impl.py", "roofline.py")

# What nvidia-smi is asked: its name for it, and ours.
ASKED = {
    "driver_version": "driver",
    "clocks.sm": "SM clock",
    "clocks.max.sm": "highest SM clock",
    "clocks.mem": "memory clock",
    "power.limit": "power limit",
    "temperature.gpu": "temperature",
}


def kernel_hash(package: Path = PACKAGE) -> str:
    """A digest of the sources that decide how fast ours is: of `kernels/` and the backend that calls them."""
    digest, folder = hashlib.sha256(), package / "kernels"
    left_out = {path for pattern in NOT_MEASURED for path in folder.glob(pattern)}
    for path in [*sorted({*folder.glob("*.py")} - left_out), package / "backends" / "fused.py"]:
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:16]


def origin(device: torch.device) -> tuple[Stamp, dict[str, str]]:
    """The stamp of a measurement, and what is known of the device and the sources."""
    where = stamp()
    cudnn = torch.backends.cudnn.version() if device.type == "cuda" else None
    versions = {
        "triton": version_of("triton"),
        "cuda": torch.version.cuda or "none",
        "cudnn": str(cudnn or "none"),
    }
    told = {"device": name_of(device), "commit": commit(), "kernels": kernel_hash()}
    if device.type == "cuda":
        chip = torch.cuda.get_device_properties(device)
        told |= {"chip": f"sm_{chip.major}{chip.minor}", "multiprocessors": str(chip.multi_processor_count)}
        told |= {"memory": f"{chip.total_memory / 2**30:.0f} GiB"}
    return replace(where, versions=where.versions | versions), told


def name_of(device: torch.device) -> str:
    """The device's name as its maker gives it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def slug(name: str) -> str:
    """The device's name as the name of a file: "NVIDIA H200" is nvidia-h200."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def commit(folder: Path = PACKAGE) -> str:
    """The commit of the sources, with "+" after it when they were changed since; "unknown" outside a repository."""
    head = _ask(["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"])
    if not head:
        return UNKNOWN
    changed = _ask(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=normal", "--", "."])
    return head + ("+" if changed else "")


def nvidia_smi() -> dict[str, str]:
    """Driver, clocks, power limit and temperature of the first GPU at this moment, as far as they can be read."""
    told = _ask(["nvidia-smi", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader", "--id=0"])
    values = [value.strip() for value in told.splitlines()[0].split(",")] if told else []
    return dict(zip(ASKED.values(), values, strict=True)) if len(values) == len(ASKED) else {"driver": UNKNOWN}


def _ask(command: list[str]) -> str:
    """What a command prints, or nothing where it fails or is missing."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""
