"""The comparison with other servers: their environments, one driver for all, rounds, report."""
