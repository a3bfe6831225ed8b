"""The one door to the models: in-process ONNX Runtime or Triton."""
