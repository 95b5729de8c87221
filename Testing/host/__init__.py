"""A stand-in for the desktop application of 3D Slicer, for tests: PySide6 offscreen around the real MRML scene.

See README.md beside this file.
"""

from .dialogs import Message
from .errors import HostError
from .host import Host

__all__ = ["Host", "HostError", "Message"]
