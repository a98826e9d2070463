"""Requests in, batches to workers, answers back: the frontend's process without the network."""
