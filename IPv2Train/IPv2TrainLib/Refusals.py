"""Buttons that cannot work: disabled, with the reason as their tooltip."""

from IPv2Lib.shards import is_dataset
from IPv2SlicerLib.Messages import sentence
from slicer.i18n import tr as _


def refuse(button, reason: str) -> None:
    """Disable a button, and let its tooltip say why."""
    button.setEnabled(False)
    button.setToolTip(sentence(reason))


def whyNoDataset(path: str) -> str:
    """Why there is no data set to work with; empty if there is one."""
    if not path:
        return _("no data set is chosen: choose its folder in section 1")
    if not is_dataset(path):
        return _("the folder of section 1 holds no data set yet: purify the cases first")
    return ""
