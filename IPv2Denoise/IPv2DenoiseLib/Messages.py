"""The module's name and its message boxes."""

from IPv2SlicerLib.widgets.Messages import MessageBoxes

TITLE = "IPv2 Denoise"

_boxes = MessageBoxes(TITLE)
errorsShown, confirm = _boxes.errorsShown, _boxes.confirm
