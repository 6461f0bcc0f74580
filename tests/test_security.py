"""SECURITY.md is true: each limit that it states is the constant that it names."""

import importlib
import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8")
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20}


def test_each_limit_that_security_md_states_is_the_constant_that_it_names():
    text = " ".join(PAGE.split())
    stated = re.findall(r"(\d[\d,]*) ?(GiB|MiB)?[^\d`]*\(`(\w+)\.([A-Z_]+)`\)", text)
    named = set(re.findall(r"`(\w+)\.([A-Z_]+)`", text)) - {("onnx_file", "OPERATORS")}
    assert {(module, name) for *_, module, name in stated} == named
    for number, unit, module, name in stated:
        held = getattr(importlib.import_module(f"hilum.safety.{module}"), name)
        assert held == int(number.replace(",", "")) * UNITS.get(unit, 1), name


def test_the_oldest_onnxruntime_that_security_md_names_is_the_declared_one():
    declared = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    oldest = re.search(r'"onnxruntime>=([\d.]+)"', declared).group(1)
    assert f"ONNX Runtime {oldest} is the oldest" in PAGE
