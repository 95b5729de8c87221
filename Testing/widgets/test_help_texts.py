"""What Slicer shows about the modules before they are opened."""

import re

import pytest
import train_panel
from panel import MODULE


@pytest.mark.parametrize("path", [MODULE, train_panel.MODULE])
def test_the_help_leads_to_the_documentation(host, path):
    import slicer

    host.load_module(MODULE, select=False)
    if path != MODULE:
        host.load_module(path, select=False)
    from IPv2SlicerLib.Homepage import HOMEPAGE

    module = getattr(slicer.modules, path.stem.lower())
    assert re.findall('<a href="([^"]+)">', module.helpText) == [f"{HOMEPAGE}#readme"]
    assert "Not for diagnosis" in module.helpText
    assert module.contributors and module.categories and not module.icon.isNull()


def test_a_folder_that_cannot_be_made_is_a_sentence(host, tmp_path):
    host.load_module(MODULE, select=False)
    from IPv2Lib.errors import OutputError
    from IPv2SlicerLib.widgets.Folders import openFolder

    openFolder(tmp_path / "new")
    assert (tmp_path / "new").is_dir() and host.messages[-1].kind == "open"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        openFolder(tmp_path / "file" / "new")
