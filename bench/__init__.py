"""Side by side with PyTorch, ONNX Runtime, OpenVINO and a NumPy loop: ``python -m bench``. See docs/benchmarks.md."""
