"""What ONNX models say of one image, without PyTorch and without a run."""
