"""What is told of a machine: its cores, its GPUs by name, what is not installed."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from evaluation.files import InputError
from ladder import machine


def test_gpus_are_counted_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["H100", "A100", "H100"]
    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 3, get_device_name=names.__getitem__
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert machine.gpus() == names
    assert machine.machine_name().endswith(", 2 x H100, 1 x A100")
    cuda.is_available = lambda: False
    assert machine.gpus() == []
    monkeypatch.delitem(sys.modules, "torch")
    assert machine.gpus() == []


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert machine.cores() == 2
    assert machine.machine_name().startswith("2 cores of ")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert machine.cores() == 7


def test_what_is_not_installed_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.version_of("no-such-distribution") == "not installed"
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"scoring needs torch and transformers; pip install"):
        machine.check_installed("scoring")
