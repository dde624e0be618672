"""Reading a GPU's trace, and the benchmarks' GPU code as far as it runs on a CPU."""

import sys
import types

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import gpu, projection
from benchmarks.gpu import Ceilings, merged_length, sampled_utilisation, working_intervals
from benchmarks.measure import Table


def _event(begin: float, end: float, kind: str = "kernel") -> dict[str, object]:
    return {"ph": "X", "cat": kind, "name": "any", "ts": begin, "dur": end - begin, "pid": 0, "tid": 7}


def test_programs_side_by_side_count_once() -> None:
    assert merged_length([(0, 10), (5, 12), (20, 21), (6, 7), (12, 13)]) == 14
    assert merged_length([]) == 0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20))))
def test_length_is_that_of_the_moments_covered(spans: list[tuple[int, int]]) -> None:
    covered = {moment for begin, length in spans for moment in range(begin, begin + length)}
    assert merged_length((begin, begin + length) for begin, length in spans) == len(covered)


def test_only_a_gpus_work_is_read_off_a_trace() -> None:
    events = [
        _event(0, 4),
        _event(3, 6, "gpu_memcpy"),
        _event(8, 9, "gpu_memset"),
        _event(0, 100, "gpu_user_annotation"),
        _event(0, 100, "cpu_op"),
        {"ph": "s", "cat": "kernel", "ts": 50, "id": 1},
    ]
    assert merged_length(working_intervals({"traceEvents": events})) == 7


def test_busy_time_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    class Profile:
        def __enter__(self) -> "Profile":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def export_chrome_trace(self, path: str) -> None:
            with open(path, "w", encoding="utf-8") as file:
                file.write('{"traceEvents": [{"ph": "X", "cat": "kernel", "ts": 10.5, "dur": 3000000}]}')

    called = []
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: Profile())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert gpu.busy_s(lambda: called.append(1), torch.device("cuda"), calls=2) == 1.5
    assert len(called) == 2


def test_the_driver_is_asked_while_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("pynvml")
    module.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 80)
    with sampled_utilisation(torch.device("cuda"), every_s=0.001) as mean:
        while mean() is None:
            pass
        assert mean() == pytest.approx(0.8)


def test_no_driver_is_queried_for_a_cpu() -> None:
    with sampled_utilisation(torch.device("cpu")) as mean:
        assert mean() is None


def test_the_floor_is_what_takes_longer() -> None:
    ceilings = Ceilings(bytes_per_s=100.0, operations_per_s=1000.0)
    assert ceilings.floor_s(moved=50, operations=10) == 0.5
    assert ceilings.floor_s(moved=50, operations=2000) == 2.0


def test_projection_stands_beside_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "peak_gb", lambda work, device: 0.25)
    monkeypatch.setattr(projection, "time_paired", lambda steps, **_: gpu.time_paired(steps, rounds=1, warmup=0))
    setting = projection.Setting(torch.device("cpu"), 2, 1, ("direct",), Ceilings(1e9, 1e12))
    volumes = torch.zeros(2, 1, 16, 16, 16)
    volumes[:, :, 4:12, 4:12, 4:12] = 1.0
    table = Table("any", "any")
    projection.time_projection(table, setting, "boxes", volumes)
    methods = ["two-pass", "fused", "fused, bfloat16"]
    assert [(row["job"], row["method"]) for row in table.rows] == [
        (job, method) for job in projection.JOBS for method in methods
    ]
    plain, fused, half = table.rows[:3]
    assert "floor_ms" not in plain
    # 2 volumes of 16^3 and 2 x 2 images of 16^2, four bytes each, at a GB a second.
    assert fused["floor_ms"] == pytest.approx(1e-6 * 4 * (2 * 16**3 + 4 * 16**2))
    assert half["floor_ms"] < fused["floor_ms"]
    assert fused["share_of_floor"] == pytest.approx(fused["floor_ms"] / fused["ms"])


def test_samples_that_count_are_those_in_the_light() -> None:
    # Straight at a slab of four layers: dark after the first samples of every ray that meets it.
    volumes = torch.zeros(1, 1, 16, 16, 16)
    rotation = torch.eye(3).unsqueeze(0)
    assert projection.samples_that_count(volumes, rotation) == 0
    volumes[:, :, 6:10] = 1.0
    dark = projection.samples_that_count(volumes, rotation)
    clear = projection.samples_that_count(0.01 * volumes, rotation)
    assert 0 < dark < clear
