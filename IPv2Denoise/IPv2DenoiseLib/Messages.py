"""The module's name and its message boxes."""

from IPv2SlicerLib.widgets.Messages import MessageBoxes

TITLE = "IPv2 Denoise"

boxes = MessageBoxes(TITLE)
showError, errorsShown, confirm = boxes.showError, boxes.errorsShown, boxes.confirm
