"""Scripts of benchmarks/ as modules."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def script_of(name: str) -> ModuleType:
    """benchmarks/NAME.py, which may import its neighbours."""
    if not (BENCHMARKS / f"{name}.py").exists():
        pytest.skip("no benchmarks/, as in a source distribution")
    if str(BENCHMARKS) not in sys.path:
        # Last, so that a script hides no package that has its name.
        sys.path.append(str(BENCHMARKS))
    module = importlib.import_module(name)
    assert Path(module.__file__).parent == BENCHMARKS
    return module
