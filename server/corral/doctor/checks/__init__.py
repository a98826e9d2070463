"""The checks, by what they are about; each is a pure function over the evidence."""
