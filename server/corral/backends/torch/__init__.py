"""torch and IPEX: how they run a model, and how their artefacts are built."""
