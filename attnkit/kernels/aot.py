"""The ahead-of-time gate: every shipped tile is compiled for its chip, on a machine that has none.

Triton's compiler, and ptxas behind it, need no GPU. What they say decides most of a kernel's speed: registers that did
not fit and spill into memory, products that missed the tensor cores, wgmma instructions that must wait for each other,
more shared memory than the chip has. `attnkit kernels --resources` prints it, and fails on any of these.

The launch itself is Triton's own up to the last step: a driver that knows only a chip's name stands in for the GPU's,
and `warmup` compiles what a launch with the same arguments would.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from attnkit.kernels.aot_cases import SHARED, Case, launches
from attnkit.kernels.call import Launch

# Kernels that multiply no matrices: what they do is limited by memory.
WITHOUT_PRODUCTS = ("delta_kernel", "merge_kernel")

SETTINGS = {
    "TRITON_DUMP_PTXAS_LOG": "1",  # registers, spills and warnings, on standard output
    "TRITON_ALWAYS_COMPILE": "1",  # what comes from the cache has no log
    "TRITON_DEFAULT_FP_FUSION": "1",  # Triton 3.10 changes the default
}


PRODUCT = r"tt\.dot .*-> tensor<(?:\d+x)?(\d+)x\d+xf32"  # in Triton's code, with the rows of its result


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of one kernel.

    `name` is the kernel's function, `tile` its (queries, keys, warps, stages). `stack` and `spills` are in bytes for
    each thread, `shared` in bytes for each program. `dots` counts the matrix products in Triton's code, and `tall`
    those of them whose result has 64 rows or more, which wgmma needs. `serialized` counts ptxas' warnings that wgmma
    instructions wait for each other.
    """

    case: Case
    name: str
    tile: tuple[int, ...] = ()
    registers: int = 0
    stack: int = 0
    spills: int = 0
    shared: int = 0
    dots: int = 0
    tall: int = 0
    mma: int = 0
    wgmma: int = 0
    serialized: int = 0
    seconds: float = 0.0
    error: str = ""


def problems(compiled: Compiled) -> list[str]:
    """Why this kernel must not be shipped; empty when it may.

    Of a chip without tensor cores for Triton (sm_75) only that it compiles, and fits. float32 products with all their
    bits are no work for tensor cores on any chip.
    """
    if compiled.error:
        return [f"does not compile: {compiled.error}"]
    found = []
    limit = SHARED[compiled.case.sm]
    if compiled.shared > limit * 1024:
        found.append(f"{compiled.shared / 1024:.0f} KB of shared memory: the chip has {limit} KB")
    if compiled.case.sm < 80:
        return found
    if compiled.spills or compiled.stack:
        found.append(f"{compiled.spills} bytes spilled, a stack of {compiled.stack} bytes")
    if compiled.serialized:
        found.append("wgmma instructions are serialized")
    return found + _missing_products(compiled)


def _missing_products(compiled: Compiled) -> list[str]:
    """Whether the tensor cores are used as they should be."""
    if not compiled.dots:
        return [] if compiled.name in WITHOUT_PRODUCTS else ["it multiplies no matrices"]
    if compiled.case.dtype == "float32":
        return []
    # wgmma is twice as fast as mma, but needs 64 rows: with fewer in any product, mma is what can be asked for.
    if compiled.case.sm == 90 and compiled.tall == compiled.dots and compiled.case.dtype != "tf32":
        return [] if compiled.wgmma and not compiled.mma else ["mma instructions, or none, in place of wgmma"]
    return [] if compiled.mma or compiled.wgmma else ["no mma instruction"]


class ChipWithoutDriver:
    """What Triton asks a driver for, up to the launch. Each one is a device of its own, on which nothing is cached."""

    numbers = itertools.count()

    def __init__(self, sm: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.target, self.device = GPUTarget("cuda", sm, 32), next(self.numbers)

    def get_current_target(self) -> Any:
        """The chip to compile for."""
        return self.target

    def get_current_device(self) -> int:
        """Triton keeps what it has compiled by device: a kernel from its cache would have no log."""
        return self.device

    def get_current_stream(self, device: int) -> int:
        """Nothing is launched on it."""
        return 0


def compile_launch(case: Case, launch: Launch) -> Compiled:
    """Compile what the launch would run on the case's chip. Only in a process that `prepare` made ready."""
    from triton.runtime import driver

    driver.set_active(ChipWithoutDriver(case.sm))
    log, start = io.StringIO(), time.perf_counter()
    tile = tuple(launch.options.get(name, 0) for name in ("BLOCK_Q", "BLOCK_K", "num_warps", "num_stages"))
    found = Compiled(case, launch.kernel.__name__, tile)
    try:
        with redirect_stdout(log):
            kernel = launch.kernel.warmup(*launch.arguments, grid=launch.grid, **launch.options)
    except Exception as error:  # whatever the compiler raises is a finding, and the others are still to be compiled
        return replace(found, error=f"{type(error).__name__}: {str(error).strip()[:300]}")
    seconds = round(time.perf_counter() - start, 2)
    ptx, rows = kernel.asm["ptx"], [int(n) for n in re.findall(PRODUCT, kernel.asm["ttir"])]
    told: dict[str, Any] = read_log(log.getvalue())
    return replace(
        found,
        **told,
        shared=kernel.metadata.shared,
        dots=len(rows),
        tall=sum(n >= 64 for n in rows),
        mma=ptx.count("mma.sync"),
        wgmma=ptx.count("wgmma.mma_async"),
        seconds=seconds,
    )


def read_log(said: str) -> dict[str, int]:
    """What ptxas says of registers, stack, spills and wgmma. Raises RuntimeError when it says nothing.

    Its lines begin differently from version to version, so only their ends are read.
    """
    if "registers" not in said:
        raise RuntimeError("Triton did not show what ptxas said: the gate needs triton 3.5 or later")
    return {
        "registers": _most(r"Used (\d+) registers", said),
        "stack": _most(r"(\d+) bytes stack frame", said),
        "spills": _most(r"(\d+) bytes spill stores", said),
        "serialized": len(re.findall(r"C75\d\d.*serialized", said)),
    }


def _most(pattern: str, text: str) -> int:
    return max((int(number) for number in re.findall(pattern, text)), default=0)


def prepare(cache: str) -> None:
    """Make a fresh process ready to compile, before it imports Triton.

    Triton decides at its import whether it interprets; kernels that are interpreted cannot be compiled.
    """
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ.update(SETTINGS, TRITON_CACHE_DIR=cache)


def compile_case(case: Case) -> list[Compiled]:
    """All kernels of one case, in a process that `prepare` made ready."""
    try:
        found = launches(case)
    except Exception as error:  # a finding, as above
        return [Compiled(case, case.kernel, error=f"{type(error).__name__}: {str(error).strip()[:300]}")]
    return [compile_launch(case, launch) for launch in found]


def compile_all(
    cases: Iterable[Case], jobs: int = 0, tell: Callable[[Compiled], None] = lambda compiled: None
) -> list[Compiled]:
    """Compile each case in one of `jobs` processes (0: one for each core), in the order of `cases`.

    `tell` hears of each kernel as it comes. Raises ModuleNotFoundError without Triton.
    """
    import importlib.util

    if importlib.util.find_spec("triton") is None:
        raise ModuleNotFoundError("No module named 'triton'", name="triton")
    found: list[Compiled] = []
    with tempfile.TemporaryDirectory() as cache:
        workers = ProcessPoolExecutor(
            jobs or os.cpu_count() or 1, mp_context=get_context("spawn"), initializer=prepare, initargs=(cache,)
        )
        with workers:
            for part in workers.map(compile_case, cases):
                for compiled in part:
                    tell(compiled)
                    found.append(compiled)
    return found
