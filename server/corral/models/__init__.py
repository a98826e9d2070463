"""The models: the zoo, a user's own files, their weights and pictures."""
