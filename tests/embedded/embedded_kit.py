"""The benchmark as a module, and where the shared data lie."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SYMPTOMS = ROOT.parent / "shared" / "data" / "symptom_diagnosis"

needs_symptoms = pytest.mark.skipif(
    not (SYMPTOMS / "train.jsonl").is_file(), reason=f"the symptom data are not there: {SYMPTOMS}"
)


def load_benchmark() -> ModuleType:
    name = "benchmark_embedded_model"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / "embedded_model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
