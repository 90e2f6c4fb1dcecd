"""The ahead-of-time gate: it finds each fault it is there for, and what it recorded is what is shipped."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnkit.kernels import aot_report, tiles
from attnkit.kernels.aot import Compiled, compile_all, problems, read_log
from attnkit.kernels.aot_cases import DTYPES, Case, every_case, launches, shipped_cases
from tests.tools import need


@pytest.fixture
def triton() -> None:
    need(importlib.util.find_spec("triton"), "Triton, which is for Linux alone")


AGAIN = "run: attnkit kernels --resources --record"
GOOD = Compiled(
    Case("forward", (9, 0), "bfloat16", 64, "plain"), "forward_kernel", (128, 64, 4, 3),
    registers=232, shared=65536, dots=4, tall=4, wgmma=32,
)  # fmt: skip


def said(*, sm: int = 90, dtype: str = "bfloat16", **changes: object) -> str:
    """What the gate says of a kernel that is right but for these changes."""
    case = dataclasses.replace(GOOD.case, capability=divmod(sm, 10), dtype=dtype)
    return "; ".join(problems(dataclasses.replace(GOOD, case=case, **changes)))


def test_a_kernel_that_fits_is_shipped() -> None:
    assert said() == ""
    assert said(sm=80, mma=64, wgmma=0) == ""
    assert said(dtype="float32", wgmma=0) == ""
    assert said(dots=4, tall=2, wgmma=0, mma=8) == "", "wgmma takes no fewer than 64 rows"
    assert said(name="delta_kernel", dots=0, tall=0, wgmma=0) == ""
    assert said(sm=75, dtype="float16", wgmma=0, stack=64, spills=64) == "", "of sm_75 only that it compiles"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spills": 8}, "8 bytes spilled"),
        ({"stack": 16}, "a stack of 16 bytes"),
        ({"serialized": 1}, "serialized"),
        ({"wgmma": 0}, "in place of wgmma"),
        ({"mma": 4}, "in place of wgmma"),
        ({"sm": 80, "wgmma": 0}, "no mma instruction"),
        ({"dots": 0}, "multiplies no matrices"),
        ({"error": "PTXASError"}, "does not compile"),
        ({"shared": 228 * 1024}, "228 KB of shared memory: the chip has 227 KB"),
        ({"sm": 80, "mma": 1, "shared": 164 * 1024}, "the chip has 163 KB"),
        ({"sm": 86, "mma": 1, "shared": 100 * 1024}, "the chip has 99 KB"),
        ({"sm": 89, "mma": 1, "shared": 100 * 1024}, "the chip has 99 KB"),
        ({"sm": 75, "dtype": "float16", "shared": 65 * 1024}, "the chip has 64 KB"),
    ],
    ids=str,
)
def test_each_fault_is_named(changes: dict, words: str) -> None:
    assert words in said(**changes)


def test_the_compilers_log_is_read_whatever_ptxas_is_called() -> None:
    log = """ptxas-blackwell info    : Compiling entry function 'forward_kernel' for 'sm_90a'
    1136 bytes stack frame, 1652 bytes spill stores, 1632 bytes spill loads
ptxas-blackwell info    : Used 255 registers, used 1 barriers
ptxas info    : (C7515) Potential Performance Loss: wgmma.mma_async instructions are serialized due to non wgmma
"""
    assert read_log(log) == {"registers": 255, "stack": 1136, "spills": 1652, "serialized": 1}
    with pytest.raises(RuntimeError, match="did not show what ptxas said"):
        read_log("")


@pytest.mark.usefixtures("triton")
def test_faults_are_found_in_compiled_kernels(tmp_path: Path) -> None:
    """The same on real kernels: a tile too many, a product by other means, what is no kernel at all."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("gate_faults.py")), str(tmp_path)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {name: "; ".join(words) for name, words in json.loads(done.stdout).items()}
    assert found["right"] == found["few rows"] == ""
    assert "no mma instruction" in found["from float32"]
    assert "multiplies no matrices" in found["no product"]
    assert "does not compile: CompilationError" in found["no kernel"]
    assert "bytes spilled" in found["too many scores"]
    assert "the chip has 99 KB" in found["too many stages"]


@pytest.mark.usefixtures("triton")
def test_a_shipped_kernel_passes() -> None:
    """One of each kind, though these tests run in Triton's interpreter."""
    cases = [Case("forward", (9, 0), "bfloat16", 64, "plain"), Case("decode", (8, 0), "bfloat16", 64, "plain")]
    heard: list[Compiled] = []
    found = compile_all(cases, jobs=1, tell=heard.append)
    assert heard == found
    assert [compiled.name for compiled in found] == ["forward_kernel", "split_kernel", "merge_kernel"]
    assert not [words for compiled in found for words in problems(compiled)]
    assert found[0].wgmma
    assert found[1].mma
    assert found[0].registers > 32


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("variant", ["plain", "everything", "odd"])
@pytest.mark.parametrize("kernel", tiles.KERNELS)
def test_what_is_compiled_is_what_a_call_launches(kernel: str, variant: str) -> None:
    """With the tile that the case is listed under, and with every feature where it says so."""
    case = Case(kernel, (9, 0), "bfloat16", 128, variant)
    for launch in launches(case):
        options, tile = launch.options, case.tile
        if "num_warps" in options:
            rows = options["BLOCK_Q"] if kernel == "decode" else tile.q  # rows are what there is, up to a tile
            assert (options["BLOCK_Q"], options["BLOCK_K"]) == (rows, tile.k)
            assert (options["num_warps"], options["num_stages"]) == (tile.warps, tile.stages)
            score = next(x for x in launch.arguments if type(x).__name__ == "Score")
            assert (score.softcap is not None) == (variant == "everything")


def test_every_tile_is_compiled_plain_and_with_everything() -> None:
    """What the gate leaves out for time are narrower heads with the same tile, and chips that share it."""
    seen = {(c.kernel, c.dtype == "float32", c.tile, c.variant): c for c in shipped_cases()}
    for case in every_case():
        if case.variant == "odd" or (case.sm == 75 and case.dtype == "float32"):
            continue
        wide = DTYPES[case.dtype].itemsize == 4
        assert (case.kernel, wide, case.tile, case.variant) in seen, case
    for sm in (75, 80, 86, 89, 90):
        assert {case.kernel for case in shipped_cases() if case.sm == sm} == set(tiles.KERNELS)


def test_the_record_is_of_these_tiles() -> None:
    found, _ = aot_report.read_record()
    assert {compiled.case for compiled in found} == set(shipped_cases()), AGAIN
    for compiled in found:
        if compiled.dots and compiled.case.kernel != "decode":
            tile = compiled.case.tile
            assert compiled.tile == (tile.q, tile.k, tile.warps, tile.stages), AGAIN
    assert not [(compiled, words) for compiled in found if (words := problems(compiled))]


def test_the_record_is_of_this_source() -> None:
    assert aot_report.read_record()[1]["source"] == aot_report.source_hash(), f"the kernels have changed; {AGAIN}"


def test_the_readmes_table_is_the_record() -> None:
    readme = aot_report.README.read_text("utf-8")
    assert aot_report.with_table(readme, *aot_report.read_record()) == readme, AGAIN
    with pytest.raises(ValueError, match="it should hold the marks"):
        aot_report.with_table("", *aot_report.read_record())


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    found = [GOOD, dataclasses.replace(GOOD, spills=8, error="it broke")]
    path = tmp_path / "resources.json"
    path.write_text(aot_report.as_json(found), "utf-8")
    assert aot_report.read_record(path)[0] == found
    table = aot_report.as_table(found)
    assert (
        "| sm_90 | bfloat16 | forward | 64 | plain | 128 x 64, 4 warps, 3 stages | 232 | 64 | wgmma | fits |" in table
    )
    assert "does not compile: it broke" in table


def test_comments_and_docstrings_are_no_other_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in aot_report.SOURCES:
        (tmp_path / f"{name}.py").write_text((aot_report.HERE / f"{name}.py").read_text("utf-8"), "utf-8")
    own = aot_report.source_hash()
    monkeypatch.setattr(aot_report, "HERE", tmp_path)
    parts = tmp_path / "parts.py"
    parts.write_text("# a comment\n" + parts.read_text("utf-8").replace('"""', '"""Well: ', 1), "utf-8")
    assert aot_report.source_hash() == own
    parts.write_text(parts.read_text("utf-8") + "\nx = 1\n", "utf-8")
    assert aot_report.source_hash() != own


def command(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a user runs it."""
    code = [sys.executable, "-m", "attnkit.cli", "kernels", *words]
    return subprocess.run(code, capture_output=True, text=True, env={**os.environ, **env})


def test_the_command_shows_the_record() -> None:
    done = command("--sm", "90")
    assert done.returncode == 0, done.stderr
    assert "| sm_90 | bfloat16 | forward |" in done.stdout
    assert "sm_80" not in done.stdout


def test_the_command_says_what_is_wrong_with_it() -> None:
    assert "there are no tiles for it" in command("--resources", "--sm", "42").stderr
    assert "leave out --sm and --all" in command("--resources", "--record", "--all").stderr


def test_without_triton_the_command_says_what_to_install() -> None:
    code = (
        "import importlib.util as util, sys\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'triton' else found(name, *a)\n"
        "sys.argv = ['attnkit', 'kernels', '--resources']\n"
        "from attnkit.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'attnkit[fused]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("triton")
@pytest.mark.slow
def test_every_shipped_tile_passes_the_gate() -> None:
    done = command("--resources", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr[-4000:]
