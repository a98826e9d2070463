"""The Open Inference Protocol: bytes to values and back."""
