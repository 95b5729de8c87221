"""The module's name and its message boxes."""

from IPv2SlicerLib.widgets.Messages import MessageBoxes

TITLE = "IPv2 Train"

boxes = MessageBoxes(TITLE)
showError, errorsShown = boxes.showError, boxes.errorsShown
