"""Getting models: pulled by digest, converted to ONNX where their publishers offer something else, checked."""
