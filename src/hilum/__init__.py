"""Hilum: folders of chest radiographs in; checked data, splits, lung masks, findings, anomaly maps and honest figures out."""

import os as _os

__version__ = "0.1.0"

# Nothing global changes on import, with one exception: what keeps libraries from writing to the home
# folder and from looking up hosts must be said before they are loaded. A user's own word goes first.
for _name, _value in {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: a device id and events in ~/.cache, a host looked up
    "NO_ALBUMENTATIONS_UPDATE": "1",
}.items():
    _os.environ.setdefault(_name, _value)
