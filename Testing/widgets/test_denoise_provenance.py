"""A click and a command say the same about what they made."""

import json

from IPv2Lib.cli.commands import main
from IPv2Lib.io import files
from IPv2SlicerLib.scene import result_nodes, volume_nodes
from panel import finish_job, open_panel


def test_a_click_and_a_command_keep_the_same_facts(host, tmp_path):
    import slicer

    widget, uldct, _ = open_panel(host, slices=2)
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    found = volume_nodes.provenance(result_nodes.nodes_of(slicer.util.getNode("CTChest denoised")).denoised)

    source = files.write(volume_nodes.node_to_volume(uldct), tmp_path / "scan.nrrd")
    assert main(["denoise", str(source), str(tmp_path / "out.nrrd"), "--model", found["model"]]) == 0
    facts = json.loads((tmp_path / "out.nrrd.json").read_text(encoding="utf-8"))
    assert found.keys() == facts.keys() - {"input_place", "output_sha256"}  # what is said of files
    assert found["input"] == "CTChest"
    told_apart = {"device", "seconds", "network_seconds", "created", "input"}
    for name in found.keys() - told_apart:
        text = facts[name] if isinstance(facts[name], str) else json.dumps(facts[name])
        assert found[name] == text, name
