"""Settings of corral beside one another: the highest rate at which each keeps a bound."""
