"""The queue's decisions: pure, without clock or socket."""
