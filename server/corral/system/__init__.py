"""The kernel's interfaces: /proc, /sys, cgroups, memory files, process groups."""
