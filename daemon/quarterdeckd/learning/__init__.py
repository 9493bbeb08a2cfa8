"""Training: data in, a fitted model and its ONNX file out."""
