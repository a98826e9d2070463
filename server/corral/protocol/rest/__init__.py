"""The HTTP form of the protocol: headers and bodies to values and back. Pure."""
