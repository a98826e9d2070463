"""Load tests for any server that speaks the Open Inference Protocol."""
