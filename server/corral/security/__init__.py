"""Who may connect, certificates, and what children give up."""
