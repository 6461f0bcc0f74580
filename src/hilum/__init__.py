"""Hilum: folders of chest radiographs in; checked data, splits, lung masks, findings, anomaly maps and honest figures out.

Importing it changes nothing global but one thing: `ORT_DISABLE_TELEMETRY` is set in the environment unless it is there
already. Else ONNX Runtime writes a device id and events to the home folder and looks up a host, from the moment when it
is imported, whoever imports it.
"""

import os as _os

__version__ = "0.1.0"

_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
