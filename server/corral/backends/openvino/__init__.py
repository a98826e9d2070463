"""OpenVINO: how it runs a model, and how its artefacts are built."""
