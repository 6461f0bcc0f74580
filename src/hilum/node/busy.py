"""The error of a node that cannot take in or write anything now, but may later."""

from hilum.errors import HilumError


class Busy(HilumError):
    """The disk is full or nearly, or too many films wait; try again later."""
