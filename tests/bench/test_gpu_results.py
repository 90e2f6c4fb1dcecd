"""What the GPU bench tells: goals, tables, where it comes from, whether it is stale; and its command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from attnkit.bench.gpu import origin, results, run
from attnkit.bench.gpu.cases import Case
from attnkit.bench.gpu.goals import geometric_mean, reached
from attnkit.bench.gpu.results import Entry, Results
from attnkit.bench.gpu.tables import as_report, cell, goal_table
from attnkit.cli import build_app
from tests.bench.gpu_tools import (
    CPU,
    FORWARD,
    invented,
    pair,
)

pytestmark = pytest.mark.slow


def find(found: Results, name: str):
    return next(one for one in reached(found) if one.goal.name == name)


# Goals and tables


def test_a_goal_is_the_geometric_mean_over_the_long_lengths() -> None:
    long, causal = replace(FORWARD, batch=4, q_len=4096, k_len=4096), replace(FORWARD, causal=True)
    short = replace(FORWARD, batch=16, q_len=1024, k_len=1024)
    entries = [*pair(FORWARD, 1.0, 1.0), *pair(long, 1.0, 1.69), *pair(causal, 2.0, 2.6), *pair(short, 9.0, 1.0)]
    one = find(invented(*entries), "forward D128 against sdpa-flash")
    assert one.mean == pytest.approx(1.3)
    assert one.plain == pytest.approx(1.3)
    assert one.causal == pytest.approx(1.3)
    assert one.worst == (FORWARD, 1.0)
    assert one.verdict == "good"
    line = f"sdpa-flash | 1.30 | 1.30 | 1.30 | 1.00 ({FORWARD.name}) | 3 of 8 | 1.20 | 1.30 | good |"
    assert line in goal_table(invented(*entries))


@pytest.mark.parametrize(("ratio", "verdict"), [(1.31, "good"), (1.25, "must"), (1.19, "missed")])
def test_a_verdict_is_good_must_or_missed(ratio: float, verdict: str) -> None:
    assert find(invented(*pair(FORWARD, 1.0, ratio)), "forward D128 against sdpa-flash").verdict == verdict


def test_nothing_is_reached_by_failing() -> None:
    other = replace(FORWARD, causal=True)
    entries = [*pair(FORWARD, 1.0, 9.0), Entry(other, "ours", reason="wrong"), Entry(other, "sdpa-flash", (1.0,))]
    one = find(invented(*entries), "forward D128 against sdpa-flash")
    assert one.missing == [other]
    assert one.verdict.startswith("missed")
    assert find(invented(), "forward D128 against sdpa-flash").verdict == "not measured"
    assert find(invented(), "backward D64 against flex").verdict == "", "there is no goal"


def test_against_several_peers_the_fastest_counts() -> None:
    case = Case("window", "forward", 1, 16, 16, 16_384, 16_384, 128, window=1024)
    entries = [*pair(case, 1.0, 9.0, "sdpa-efficient"), Entry(case, "sdpa-cudnn", (7.0,) * 5)]
    one = find(invented(*entries), "window against SDPA with a mask")
    assert one.mean == pytest.approx(7.0)
    assert one.verdict == "must"


def test_decoding_is_a_share_of_the_bandwidth() -> None:
    case = Case("decode", "forward", 16, 16, 2, 1, 32_768, 128)
    took = case.cache_bytes / 3.6e12 * 1e3  # ms, at 3.6 TB/s
    entry = Entry(case, "ours", (took,) * 5)
    one = find(invented(entry), "decode, % of the memory's bandwidth")
    assert one.mean == pytest.approx(75.0)
    assert cell(invented(entry), entry) == "3.60 ± 0.00 TB/s (90% of a copy, 75% of the data sheet)"
    elsewhere = find(invented(entry, device="Some GPU"), "decode, % of the memory's bandwidth")
    assert elsewhere.mean == pytest.approx(90.0)


def test_a_cell_is_the_rate_its_spread_and_its_share_of_the_product() -> None:
    samples = tuple(FORWARD.flop / rate / 1e9 for rate in (398.0, 399.0, 400.0, 401.0, 402.0))
    entry = Entry(FORWARD, "ours", samples)
    assert cell(invented(entry), entry) == "400 ± 1.5 (50%)"
    dispatch = Entry(Case("dispatch", "forward", 1, 8, 8, 128, 128, 64), "ours", (0.02, 0.03, 0.04))
    assert cell(invented(dispatch), dispatch) == "30.0 µs"
    assert cell(invented(), None) == "–"


def test_geometric_mean() -> None:
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert geometric_mean([]) is None


def test_goals_of_another_device_are_for_orientation() -> None:
    assert "for orientation" in as_report(invented(device="NVIDIA L4"))
    assert "for orientation" not in as_report(invented())


# Where it comes from


def test_the_hash_is_of_the_kernels_and_of_nothing_else(tmp_path: Path) -> None:
    for name in ("kernels/forward.py", "kernels/aot.py", "backends/fused.py", "backends/naive.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    before = origin.kernel_hash(tmp_path)
    (tmp_path / "kernels" / "aot.py").write_text("changed")
    (tmp_path / "backends" / "naive.py").write_text("changed")
    assert origin.kernel_hash(tmp_path) == before
    for name in ("kernels/forward.py", "backends/fused.py", "kernels/new.py"):
        (tmp_path / name).write_text("changed")
        assert origin.kernel_hash(tmp_path) != before, name
        before = origin.kernel_hash(tmp_path)


def test_the_origin_says_what_is_known() -> None:
    where, told = origin.origin(CPU)
    assert told["device"] == "cpu"
    assert re.fullmatch(r"[0-9a-f]{16}", told["kernels"])
    assert re.fullmatch(r"[0-9a-f]{7,40}\+?|unknown", told["commit"])
    assert {"torch", "triton", "cuda", "cudnn"} <= where.versions.keys()


def test_a_folder_that_is_no_repository_has_no_commit(tmp_path: Path) -> None:
    assert origin.commit(tmp_path) == "unknown"


def test_nvidia_smi_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "_ask", lambda command: "580.1, 1980 MHz, 1980 MHz, 3201 MHz, 700.00 W, 41")
    assert origin.nvidia_smi()["driver"] == "580.1"
    assert origin.nvidia_smi()["SM clock"] == "1980 MHz"
    monkeypatch.setattr(origin, "_ask", lambda command: "")
    assert origin.nvidia_smi() == {"driver": "unknown"}


def test_a_device_names_a_file() -> None:
    assert origin.slug("NVIDIA H200") == "nvidia-h200"
    assert origin.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_another_kind_of_file_is_refused_and_passed_over(tmp_path: Path) -> None:
    (tmp_path / "cpu.json").write_text('{"schema": 1, "rows": []}')
    with pytest.raises(ValueError, match=r"cpu\.json holds None with schema 1; it should be 'attention on a GPU'"):
        results.read(tmp_path / "cpu.json")
    assert results.kept(tmp_path) == {}


# The command


def bench(*words: str):
    return CliRunner().invoke(build_app(), ["bench", "attention", *words])


def test_stale_results_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    told = bench("--check")
    assert told.exit_code == 0
    assert "nothing is claimed" in told.output
    results.write(invented(*pair(FORWARD, 1.0, 1.0)), tmp_path / "h200.json")
    told = bench("--check")
    assert told.exit_code == 0
    assert "h200.json: NVIDIA H200" in told.output
    assert "current" in told.output
    older = json.loads((tmp_path / "h200.json").read_text())
    older["told"]["kernels"] = "0" * 16
    (tmp_path / "h200.json").write_text(json.dumps(older))
    told = bench("--check")
    assert told.exit_code == 1
    assert "STALE" in told.output
    assert "STALE" in as_report(results.read(tmp_path / "h200.json"))


def test_a_gpu_that_is_not_there_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = bench("--device", "cuda")
    assert told.exit_code == 2
    assert "finds no CUDA device" in told.output
    told = CliRunner().invoke(build_app(), ["bench", "lab", "--device", "cuda"])
    assert told.exit_code == 2
    assert "only attention" in told.output


@pytest.mark.parametrize("device", ["every", "cuda"])
def test_the_command_measures_the_gpu_where_there_is_one(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is a stand-in: what is tested is who is called with what, and where the samples go."""
    asked: list[tuple] = []

    def measure_cuda(quick: bool, minutes: float, out: Path | None) -> Results:
        asked.append((quick, minutes, out))
        return invented(*pair(FORWARD, 1.0, 1.25))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(run, "measure_cuda", measure_cuda)
    monkeypatch.setattr("attnkit.bench.attention.suite", lambda: pytest.fail("on the CPU") if device == "cuda" else [])
    out = tmp_path / "cpu.json"
    told = bench("--device", device, "--quick", "--minutes", "3", "--out", str(out))
    assert told.exit_code == 0, told.output
    assert asked == [(True, 3.0, out if device == "cuda" else tmp_path / "nvidia-h200.json")]
    assert "| forward D128 against sdpa-flash | 1.25 |" in told.output
    assert out.exists() == (device == "every")


def test_on_a_cpu_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(run, "measure_cuda", lambda *given: pytest.fail("there is no GPU"))
    monkeypatch.setattr("attnkit.bench.attention.suite", lambda: [])
    assert bench().exit_code == 0
