"""``corral evaluate``: how right each engine and precision is on a user's labelled pictures."""
