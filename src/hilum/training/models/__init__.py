"""The models shelf: one plug-in a module, found by its file name. torch is imported here and nowhere else in Hilum.

Every plug-in holds `TASK`, `OUTPUTS`, `CARD`, a frozen dataclass `Settings` and `fit`, which returns a network ready for export:
uint8 images (n, size, size), bright is dense, in; float32 out. The modules whose names start with an underscore are shared by the
plug-ins: the one training loop (`_loop`), the way to ONNX (`_export`), the lung networks (`_lungs`) and the anomaly models (`_anomaly`);
`_dataset` is for loops of one's own.
"""
