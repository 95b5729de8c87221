"""Engines: ONNX Runtime and PyTorch compute the same, each is there where it can be, and graphs fit their weights."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import IPv2Lib
import numpy as np
import pytest
from IPv2Lib import packages
from IPv2Lib.errors import BundleError, InputError, InputNote
from IPv2Lib.inference import devices, engines, torch_device
from IPv2Lib.inference.denoise import denoise
from IPv2Lib.inference.engines import choose_engine
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle, graph
from IPv2Lib.networks import registry
from samples import CARD

pytest.importorskip("onnxruntime")
BUNDLED = ("ipv2-fast", "ipv2-quality")
TINY = {"channels": [4, 8], "blocks": [1, 1]}
MOST_HU = 0.01


def noisy(shape=(3, 72, 61), dtype=np.float32) -> Volume:
    ramp = np.linspace(-900, 300, shape[-1]) + np.zeros(shape)
    return Volume((ramp + np.random.default_rng(0).normal(0, 60, shape)).astype(dtype), (0.7, 0.7, 1.25))


def tiny(folder, name="unet", with_graph=True, seed=0, **arguments) -> bundle.Bundle:
    """A small network whose weights are random."""
    import torch

    arguments = arguments or TINY
    torch.manual_seed(seed)
    network = registry.build(name, **arguments)
    state = network.state_dict()
    for value in state.values():
        if value.is_floating_point():
            value += 0.05 * torch.randn(value.shape)
    return bundle.save(folder, name, arguments, state, CARD, with_graph=with_graph)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> bundle.Bundle:
    return tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copied(model, tmp_path):
    """A copy of the model to do harm to."""
    return shutil.copytree(model.folder, tmp_path / "tiny")


def change_card(folder, **changes) -> None:
    path = folder / bundle.CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def same(first: Volume, second: Volume, most: float = MOST_HU) -> bool:
    return bool(np.abs(first.array.astype(float) - second.array).max() <= most)


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize(
    "options", [{}, {"tile": 64}, {"batch": 2}, {"test_time_augmentation": True}, {"keep_outside_body": True}], ids=str
)
def test_the_engines_agree_on_the_bundled_models(name, options):
    if options.get("test_time_augmentation") and name == "ipv2-quality":
        pytest.skip("it takes long, and the other model shows it")
    results = {
        engine: denoise(noisy(), bundle.load(name), device="cpu", engine=engine, **options)
        for engine in ("onnxruntime", "torch")
    }
    assert same(results["onnxruntime"].volume, results["torch"].volume)
    assert not same(results["torch"].volume, noisy(), most=5)
    for engine, result in results.items():
        assert result.provenance["engine"] == engine and engine in result.provenance["versions"]


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 33, 130), (1, 128, 128)], ids=str)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_the_engines_agree_on_odd_sizes_and_types(model, shape, dtype):
    first, second = (
        denoise(noisy(shape, dtype), model, device="cpu", engine=engine) for engine in ("onnxruntime", "torch")
    )
    assert first.volume.array.dtype == dtype
    # A value at half of a HU can be rounded either way.
    assert same(first.volume, second.volume, most=1 if dtype == np.int16 else MOST_HU)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("dncnn", {"depth": 3, "filters": 4}),
        ("ipv2net", TINY),
        ("redcnn", {"filters": 4}),
        ("structkpn", {"filters": 4, "blocks": 1, "kernel": 3}),
        ("unet", TINY),
    ],
)
def test_networks_that_have_a_graph(tmp_path, name, arguments):
    made = tiny(tmp_path / name, name, **arguments)
    assert made.has_graph and choose_engine(made) == "onnxruntime"


def test_a_network_that_has_none_says_why_and_runs_on_pytorch(tmp_path):
    with pytest.warns(InputNote, match="PyTorch only: .*Fourier"):
        made = tiny(tmp_path / "ffm", "ffm", width=16, blocks=1)
    assert not made.has_graph and choose_engine(made) == "torch"
    with pytest.raises(InputError, match="no graph for ONNX Runtime: choose engine 'torch'"):
        choose_engine(made, "onnxruntime")


def test_a_graph_holds_no_weights(model):
    weights = (model.folder / bundle.WEIGHTS_FILE).stat().st_size
    assert (model.folder / graph.GRAPH_FILE).stat().st_size < 40_000
    import onnx

    stored = onnx.load(model.folder / graph.GRAPH_FILE, load_external_data=False).graph.initializer
    assert weights and not any(each.raw_data for each in stored if each.name in model.weights())


def test_the_graph_of_earlier_weights_does_not_stay(model, tmp_path):
    card = model.card.as_dict()
    network = model.network()
    made = bundle.save(
        tmp_path / "again", card["network"]["name"], TINY, network.state_dict(), card | {"name": "again"}
    )
    assert not made.has_graph and not (made.folder / graph.GRAPH_FILE).exists()


def test_a_session_keeps_its_weights_whatever_becomes_of_ours(model):
    weights = {name: array for name, array in model.weights().items() if array.dtype.kind == "f"}
    session = graph.session((model.folder / graph.GRAPH_FILE).read_bytes(), weights)
    slices = noisy((3, 32, 32)).array[None] / 1000
    (before,) = session.run(None, {graph.INPUT: slices})
    for array in weights.values():
        array.fill(7)
    np.testing.assert_array_equal(session.run(None, {graph.INPUT: slices})[0], before)


def test_what_the_graph_is_does_not_decide_the_key(model, tmp_path):
    assert tiny(tmp_path / "tiny", with_graph=False).key == model.key


@pytest.mark.parametrize(
    ("here", "device", "expected"),
    [
        ({"onnxruntime", "torch"}, "cpu", "onnxruntime"),
        ({"torch"}, "cpu", "torch"),
        ({"onnxruntime", "torch"}, "cuda", "torch"),
        ({"onnxruntime"}, "cpu", "onnxruntime"),
    ],
)
def test_the_engine_is_chosen_by_what_there_is(model, monkeypatch, here, device, expected):
    monkeypatch.setattr(packages, "is_here", here.__contains__)
    assert choose_engine(model, "auto", device) == expected


@pytest.mark.parametrize(
    ("engine", "device", "here", "message"),
    [
        ("tensorrt", "cpu", {"torch"}, "unknown engine 'tensorrt': choose one of auto, onnxruntime, torch"),
        ("onnxruntime", "cuda", {"onnxruntime"}, "for the CPU, not for 'cuda'"),
        ("onnxruntime", "cpu", {"torch"}, "'onnxruntime' needs onnxruntime, .* not installed: pip install onnxruntime"),
        ("torch", "cpu", {"onnxruntime"}, r"'torch' needs PyTorch, .* not installed: pip install \"IPv2Lib\[torch\]\""),
        ("auto", "cuda", {"onnxruntime"}, "device 'cuda' needs PyTorch"),
        ("auto", "cpu", set(), "denoising on the CPU needs onnxruntime, .* pip install onnxruntime"),
    ],
)
def test_engines_that_cannot_be(model, monkeypatch, engine, device, here, message):
    monkeypatch.setattr(packages, "is_here", here.__contains__)
    with pytest.raises(InputError, match=message):
        choose_engine(model, engine, device)


def test_a_model_without_a_graph_needs_pytorch(tmp_path, monkeypatch):
    made = tiny(tmp_path / "tiny", with_graph=False)
    monkeypatch.setattr(packages, "is_here", {"onnxruntime"}.__contains__)
    with pytest.raises(InputError, match="model 'tiny', which has no graph for ONNX Runtime, needs PyTorch"):
        choose_engine(made)


def run(folder) -> None:
    denoise(noisy(), bundle.load(folder), engine="onnxruntime", device="cpu")


def test_a_damaged_graph(copied):
    path = copied / graph.GRAPH_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BundleError, match=r"graph\.onnx is truncated or changed"):
        run(copied)
    path.unlink()
    with pytest.raises(BundleError, match=r"has no graph\.onnx: copy the model again"):
        run(copied)


@pytest.mark.parametrize("content", [b"", b"no graph at all", bytes(1000)], ids=["empty", "text", "zeros"])
def test_what_is_no_graph(copied, content):
    (copied / graph.GRAPH_FILE).write_bytes(content)
    facts = vars(bundle.load(copied).card.graph) | {"sha256": hashlib.sha256(content).hexdigest()}
    change_card(copied, graph=facts)
    with pytest.raises(BundleError, match=r"graph\.onnx: ONNX Runtime .* cannot run it .* or use --engine torch"):
        run(copied)


def test_the_graph_of_another_network(copied, tmp_path):
    other = tiny(tmp_path / "other", channels=[4, 6], blocks=[1, 1])
    shutil.copy(other.folder / graph.GRAPH_FILE, copied)
    change_card(copied, graph=vars(other.card.graph))
    with pytest.raises(BundleError, match="cannot run it"):
        run(copied)


@pytest.fixture
def changed_graph(copied):
    """Change the graph of the model, which the card then says is right."""
    import onnx

    def change(how) -> Path:
        path = copied / graph.GRAPH_FILE
        model = onnx.load(path, load_external_data=False)
        how(model)
        path.write_bytes(model.SerializeToString())
        facts = vars(bundle.load(copied).card.graph) | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        change_card(copied, graph=facts)
        return copied

    return change


def one_line_with_torch(error: pytest.ExceptionInfo) -> bool:
    return "\n" not in str(error.value) and str(error.value).endswith("copy the model again, or use --engine torch")


def test_operators_that_nobody_knows(changed_graph):
    def change(model):
        model.graph.node[0].op_type, model.graph.node[0].domain = "Steal", "com.example"
        model.opset_import.add(domain="com.example", version=1)

    with pytest.raises(BundleError, match=r"graph\.onnx: ONNX Runtime [\d.]+ cannot run it .*com\.example") as error:
        run(changed_graph(change))
    assert one_line_with_torch(error)


def test_a_graph_that_wants_more_weights_or_files(changed_graph, tmp_path, monkeypatch):
    """Even where a file of that name lies, whoever made the model cannot have it read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_bytes(bytes(1_000_000))

    def change(model):
        from onnx import helper

        one = next(each for each in model.graph.initializer if each.external_data)
        model.graph.initializer.add().CopyFrom(one)
        model.graph.initializer[-1].name = "more"
        for node in model.graph.node:
            node.input[:] = ["sum" if name == one.name else name for name in node.input]
        model.graph.node.insert(0, helper.make_node("Add", [one.name, "more"], ["sum"]))

    with pytest.raises(BundleError, match="cannot run it") as error:
        run(changed_graph(change))
    assert one_line_with_torch(error)


def test_a_graph_with_other_ends(changed_graph):
    def change(model):
        for node in model.graph.node:
            node.input[:] = ["x" if name == graph.INPUT else name for name in node.input]
        model.graph.input[0].name = "x"

    with pytest.raises(BundleError, match="it goes from and to x, centre, not from slices to centre") as error:
        run(changed_graph(change))
    assert one_line_with_torch(error)


def test_a_graph_that_wants_another_number_of_slices(copied):
    change_card(copied, graph=vars(bundle.load(copied).card.graph) | {"context": 5})
    with pytest.raises(BundleError, match=r"graph\.onnx fails on slices of \(1, 5, 72, 61\)") as error:
        run(copied)
    assert one_line_with_torch(error)


def test_a_graph_that_makes_something_else_of_slices(changed_graph):
    def change(model):
        from onnx import helper

        last = next(node for node in model.graph.node if graph.OUTPUT in node.output)
        last.output[0] = "whole"
        model.graph.node.append(helper.make_node("Concat", ["whole", "whole"], [graph.OUTPUT], axis=3))
        del model.graph.output[0].type.tensor_type.shape.dim[:]

    with pytest.raises(BundleError, match=r"makes \(1, 1, 72, 122\) of slices of \(1, 3, 72, 61\)") as error:
        run(changed_graph(change))
    assert one_line_with_torch(error)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("__version__", "1.16.3", "onnxruntime 1.16.3 is too old: pip install 'onnxruntime>=1.17', or choose engine"),
        (
            "get_available_providers",
            lambda: ["CUDAExecutionProvider"],
            "has no CPUExecutionProvider: install .*engine",
        ),
    ],
)
def test_an_onnxruntime_that_cannot_be_used(model, monkeypatch, name, value, says):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, name, value)
    with pytest.raises(InputError, match=says) as error:
        run(model.folder)
    assert "copy the model" not in str(error.value)


def test_an_onnxruntime_that_cannot_be_loaded(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(packages, "is_here", lambda package: True)
    says = r"onnxruntime cannot be loaded .*: install it again, or choose engine 'torch'"
    with pytest.raises(InputError, match=says):
        run(model.folder)


def test_the_oldest_onnxruntime_is_what_the_package_asks_for():
    root = Path(__file__).resolve().parents[2]
    wanted = f"onnxruntime>={'.'.join(map(str, graph.OLDEST_RUNTIME))}"
    assert all(wanted in (root / name).read_text() for name in ("pyproject.toml", "Resources/requirements.txt"))


@pytest.mark.parametrize(
    "wrong", [{"sha256": "0"}, {"context": 0}, {"multiple": 1.5}, {"halo": 1 << 20}, {"more": 1}], ids=str
)
def test_cards_with_wrong_facts_of_a_graph(copied, wrong):
    change_card(copied, graph=vars(bundle.load(copied).card.graph) | wrong)
    with pytest.raises(BundleError, match="key 'graph'"):
        bundle.load(copied)


def test_memory_that_runs_out_leads_to_tiles(model, monkeypatch):
    def hungry(self, slices):
        if slices.shape[-1] > 100:
            raise MemoryError("no room")
        return slices[:, self.context // 2].copy()

    monkeypatch.setattr(engines.OnnxEngine, "run", hungry)
    monkeypatch.setattr(
        engines.OnnxEngine,
        "__init__",
        lambda self, bundle, calls: vars(self).update(version="1", context=1, multiple=1, halo=8, parallel=1),
    )
    result = denoise(noisy((1, 300, 300)), model, engine="onnxruntime", device="cpu")
    assert result.provenance["tile"] == 64


@pytest.fixture(scope="module")
def no_pytorch(tmp_path_factory) -> Path:
    """The packages that are installed here, but for PyTorch and what needs it."""
    folder = tmp_path_factory.mktemp("packages")
    for path in Path(np.__file__).parents[1].iterdir():
        if not path.name.startswith(("torch", "functorch")) and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.parametrize(
    "line", ["denoise SCAN out.nrrd --statistics --json", "models", "evaluate SCAN SCAN", "denoise SCAN out.nrrd --tta"]
)
def test_commands_that_need_no_pytorch(model, no_pytorch, tmp_path, line):
    scan = tmp_path / "scan.nrrd"
    files.write(noisy((2, 40, 40), np.int16), scan)
    if line.startswith("denoise"):
        line += f" --model {model.folder}"
    places = os.pathsep.join([str(Path(IPv2Lib.__file__).parents[1]), str(no_pytorch)])
    done = subprocess.run(
        [sys.executable, "-S", "-m", "IPv2Lib", *line.replace("SCAN", str(scan)).split()], capture_output=True,
        text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": places},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_devices_are_measured_with_an_engine(model, engine, monkeypatch):
    monkeypatch.setattr(devices, "SLICE", 64)
    monkeypatch.setattr(devices, "has_idle_gpu", lambda: True)
    found, (problem,) = devices.survey(lambda device: model, engine=engine)
    assert (found[-1].device, found[-1].engine) == ("cpu", engine)
    assert problem.startswith("there seems to be a GPU, and PyTorch is not installed, which uses it")


@pytest.mark.parametrize(("torch", "driver", "idle"), [(False, True, True), (True, True, False), (False, False, False)])
def test_a_gpu_is_idle_without_pytorch(monkeypatch, torch, driver, idle):
    monkeypatch.setattr(packages, "is_here", lambda package: torch)
    monkeypatch.setattr(torch_device, "_has_driver", lambda: driver)
    assert torch_device.has_idle_gpu() == idle


def test_the_automatic_device_of_onnxruntime_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch_device, "_may_use_gpu", lambda: pytest.fail("was asked"))
    assert torch_device.choose_device("auto", "onnxruntime") == "cpu"


def test_nothing_is_kept_or_sent_about_what_runs(model, tmp_path):
    """ONNX Runtime keeps a number for the device, and reports to its makers, unless told not to."""
    script = (
        "import sys; from pathlib import Path; import numpy as np; from IPv2Lib.models import bundle\n"
        "bundle.load(Path(sys.argv[1])).session().run(None, {'slices': np.zeros((1, 3, 16, 16), np.float32)})"
    )
    environment = {name: text for name, text in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    places = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    environment |= places | {"PYTHONPATH": str(Path(IPv2Lib.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script, str(model.folder)], check=True, cwd=tmp_path, env=environment)
    assert not list(tmp_path.iterdir())


def test_the_option_reaches_the_engine(model):
    from IPv2Lib.inference.options import DenoiseOptions

    assert dataclasses.asdict(DenoiseOptions())["engine"] == "auto"
    with pytest.raises(InputError, match="engine"):
        DenoiseOptions(engine="tensorrt")
