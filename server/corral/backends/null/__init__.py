"""The null backend: answers without computing, for tests of the data path."""
