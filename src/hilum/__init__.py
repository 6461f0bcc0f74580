"""Hilum: from folders of chest radiographs to checked data, splits, lung masks, findings, anomaly
maps and figures with intervals.

Importing it has one global effect: `ORT_DISABLE_TELEMETRY` is set in the environment unless it is
there already. Without it ONNX Runtime, from the moment it is imported by anyone, writes a device id
and events to the home folder and resolves the name of a host.
"""

import os as _os

__version__ = "0.1.0"

_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
