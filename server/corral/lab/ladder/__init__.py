"""The ladder: every optimization of a well-known article, measured on this machine, one by one."""
