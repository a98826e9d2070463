"""The zoo: one file a model, each with a ``SPEC``. Adding a model is adding a file."""
