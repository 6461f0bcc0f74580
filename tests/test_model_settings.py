"""Settings of models: known from the source alone, equal to those of the imported plug-in."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from hilum import plugins

WITHOUT_TORCH = """
import sys
from hilum import plugins
for name in plugins.names("models"):
    plugins.defaults("models", name, "Settings")
assert not {"torch", "onnx", "monai"} & set(sys.modules)
"""


@pytest.mark.parametrize("name", plugins.names("models"))
def test_the_defaults_read_from_the_source_are_those_of_the_class(name):
    pytest.importorskip("torch")
    settings = plugins.load("models", name).Settings
    expected = {setting.name: setting.default for setting in fields(settings)}
    assert plugins.defaults("models", name, "Settings") == expected


def test_the_defaults_of_all_models_are_read_without_pytorch():
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True)


def test_a_base_class_that_the_source_does_not_import_by_name_is_refused(monkeypatch, tmp_path):
    (tmp_path / "mine.py").write_text("class Settings(elsewhere.Settings):\n    width: int = 3\n")
    monkeypatch.setattr(plugins, "_folder", lambda kind: tmp_path)
    with pytest.raises(LookupError, match="elsewhere.Settings is not imported"):
        plugins.defaults("models", "mine", "Settings")
