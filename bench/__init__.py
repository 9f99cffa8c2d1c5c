"""Side by side with PyTorch and ONNX Runtime: ``python -m bench``."""
