"""What people see of a running server: its numbers, the machine drawn, the page, the terminal."""
