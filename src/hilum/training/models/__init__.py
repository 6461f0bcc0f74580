"""Model plug-ins, one per module, found by file name.

Every plug-in has `TASK`, `OUTPUTS`, `CARD`, `QUICK` (settings for a quick run), a frozen dataclass
`Settings`, and `fit`, which returns a network ready for export: uint8 images (n, size, size),
bright is dense, in; float32 out. `Settings` may derive from a class of `hilum.training.settings`
and then states only what differs.

Parts that plug-ins share are in `hilum.training`: the one training loop (`training_loop`), the ONNX
export (`onnx_export`), lung segmentation (`lung_segmentation`), classification of findings
(`classification`) and anomaly detection (`anomaly_detection`).
"""
