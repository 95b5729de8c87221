"""Whether Slicer stays usable: `python Testing/benchmarks/responsiveness.py [SLICES]`.

Denoises a synthetic volume of 512×512 pixels (300 slices unless said otherwise) by a click in the module IPv2
Denoise, in the stand-in for Slicer's application, and measures with a timer in the event loop for how long the user
interface stands still: while the job is started, while it runs, when its result enters the scene, when the strength
is changed, and while the result is saved and exported. Then how soon Cancel has ended the worker, how soon a killed
and a stuck worker are noticed, and the preview of one slice of a purification. Bars: 100 ms while the job runs, 1 s
when the result enters the scene, 0.3 s while it is saved and exported, 1 s for Cancel, 2 s for a killed or stuck
worker. The preview is a job, too: what is measured is when it is there.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Testing"))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import slicer  # noqa: E402
from host import Host  # noqa: E402
from IPv2Lib.io.volume import Volume  # noqa: E402
from IPv2Lib.simulation import dose, phantom  # noqa: E402
from IPv2SlicerLib.jobs.job_runner import JobState  # noqa: E402
from IPv2SlicerLib.scene import volume_nodes  # noqa: E402
from PySide6 import QtCore  # noqa: E402


def scan(slices: int) -> Volume:
    """A synthetic chest with noise, its few slices repeated."""
    noisy = dose.simulate(phantom.chest(seed=1, size=512, slices=8), 0.1)
    array = np.resize(np.clip(np.rint(noisy.array), -1024, 3071).astype(np.int16), (slices, 512, 512))
    return Volume(array, noisy.spacing)


class Stopwatch:
    """The longest standstill in each state of the job."""

    def __init__(self, host: Host):
        self.host, self.state, self.blocks = host, None, {}

    def see(self, state) -> None:
        if state is not self.state:
            self.blocks[self.state] = max(self.blocks.get(self.state, 0.0), self.host.longest_block())
            self.host.reset_block_timer()
            self.state = state


def main() -> None:
    slices = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with Host() as host:
        node = volume_nodes.volume_to_node(scan(slices), "Chest")
        widget = host.load_module(REPOSITORY / "IPv2Denoise" / "IPv2Denoise.py")
        runner = widget.logic.runner
        watch = Stopwatch(host)
        host.reset_block_timer()
        host.click(widget.ui.denoiseButton)
        began = time.perf_counter()
        while runner.state.active:
            watch.see(runner.state)
            host.process_events(0.02)
        watch.see(None)
        print(f"{slices} slices of 512²: {runner.state.name}, {time.perf_counter() - began:.0f} s")
        if runner.state is not JobState.COMPLETED:
            sys.exit(runner.error)
        names = {JobState.STARTING: "starting", JobState.RUNNING: "running", JobState.IMPORTING: "result enters"}
        for state, name in names.items():
            print(f"  user interface stands still, {name:14} {1000 * watch.blocks.get(state, 0.0):6.0f} ms")
        parameters = widget.logic.getParameterNode()
        host.reset_block_timer()
        parameters.strengthPercent = 60.0
        host.process_events(1.5)
        print(f"  user interface stands still, new strength   {1000 * host.longest_block():6.0f} ms")

        denoised = slicer.util.getNode("Chest denoised")
        with tempfile.TemporaryDirectory() as folder:
            for name, write in (
                ("save as NRRD", lambda: widget.logic.save(denoised, Path(folder) / "out.nrrd")),
                ("save as NIfTI", lambda: widget.logic.save(denoised, Path(folder) / "out.nii.gz")),
                ("export as DICOM", lambda: widget.logic.exportDicom(denoised, folder, True)),
            ):
                host.reset_block_timer()
                began = time.perf_counter()
                QtCore.QTimer.singleShot(0, write)
                host.process_events(0.02)
                host.wait_until(lambda: not runner.state.active, 300)
                print(
                    f"  user interface stands still, {name:14} {1000 * host.longest_block():6.0f} ms "
                    f"of {time.perf_counter() - began:.1f} s, {runner.state.name}"
                )

        for name, act, noticed in (
            ("Cancel has ended the worker", lambda worker: runner.cancel(), lambda: not runner.state.active),
            ("killed worker is noticed", psutil.Process.kill, lambda: not runner.state.active),
            ("stuck worker is noticed", psutil.Process.suspend, lambda: not runner.responding),
        ):
            widget.logic.denoise(node)
            host.wait_until(lambda: runner.fraction > 0.02, 60)
            (worker,) = psutil.Process().children()
            began = time.perf_counter()
            act(worker)
            host.wait_until(noticed, 60)
            print(f"  {name:43} {1000 * (time.perf_counter() - began):6.0f} ms")
            runner.close()

        other = volume_nodes.volume_to_node(scan(3), "NDCT")
        for attempt in ("first", "then"):
            began = time.perf_counter()
            widget.logic.previewSlice(node, other, sliceIndex=1).wait()
            print(f"  preview of one slice of a purification ({attempt}): {time.perf_counter() - began:.2f} s")
        slicer.mrmlScene.Clear()


if __name__ == "__main__":
    main()
