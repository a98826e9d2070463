"""How a machine becomes a plan: what it has, how it is divided, and why."""
