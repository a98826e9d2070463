"""``corral-loadtest bars``: figures with a bound, measured on this machine."""
