"""Scripts of benchmarks/ as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def script_of(name: str) -> ModuleType:
    """benchmarks/NAME.py, imported with what it imports of its neighbours."""
    path = BENCHMARKS / f"{name}.py"
    if not path.exists():
        pytest.skip("no benchmarks/, as in a source distribution")
    if str(BENCHMARKS) not in sys.path:
        # Last, for a script may have the name of a package.
        sys.path.append(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"{name}_benchmark"] = module
    spec.loader.exec_module(module)
    return module
