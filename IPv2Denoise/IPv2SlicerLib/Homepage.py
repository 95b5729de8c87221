"""Where the extension is at home."""

from slicer.i18n import tr as _

HOMEPAGE = "https://www.example.com/SlicerIPv2"
"""Address of the public repository on GitHub. TO BE SET, here and nowhere else, as soon as there is one: the help texts
of both modules link to it, and CMakeLists.txt takes homepage, icon and screenshots of the extension from this line."""


def documentationLink() -> str:
    """A paragraph for a module's help text."""
    return _('<p>How to use it, and what it was tested on: <a href="{address}">documentation</a>.</p>').format(
        address=f"{HOMEPAGE}#readme"
    )
