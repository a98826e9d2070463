"""Queues without a server: what waiting alone costs. Pure."""
