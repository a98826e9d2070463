"""Where the time goes: a request's phases, the engine's operators, threads."""
