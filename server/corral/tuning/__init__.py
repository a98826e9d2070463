"""Which engine and precision serve: candidates are compared with FP32 and measured."""
