"""The error of the stand-in."""


class HostError(Exception):
    """The module asked for something that Slicer does not have, or that this stand-in does not know."""
