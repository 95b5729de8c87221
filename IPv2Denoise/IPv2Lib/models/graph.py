"""What a network computes, as an ONNX graph without its weights: for engines that know nothing of PyTorch.

Weights stay in one place, the bundle's safetensors file; whoever runs the graph hands them over by their names. The
graph is made where PyTorch is, when a bundle is written, and is only taken into it if ONNX Runtime computes the same.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..networks.registry import HALO

if TYPE_CHECKING:
    import onnxruntime

    from ..networks.registry import Network

GRAPH_FILE = "graph.onnx"
INPUT, OUTPUT = "slices", "centre"
OPSET = 18
OLDEST_RUNTIME = 1, 17
MOST_GRAPH_BYTES = 16 << 20

_CPU = "CPUExecutionProvider"

MOST_DIFFERENCE = 1e-5
"""Between the graph and its network: 0.01 HU, in the units of networks."""

_EXAMPLES = ((1, 64, 96), (2, 50, 71), (1, 130, 97))  # batch, rows, columns: other sizes than that of the export


def facts(network: Network) -> dict[str, int]:
    """What one must know of a network to run its graph: `context`, `multiple` and `halo`, see `registry`."""
    return {
        "context": network.context,
        "multiple": getattr(network, "multiple", 1),
        "halo": getattr(network, "halo", HALO),
    }


def export(network: Network, why_not: str = "") -> bytes:
    """The graph of a network in evaluation mode on the CPU, without its weights.

    Parameters
    ----------
    network : Network
    why_not : str
        What is known to be in the way, as `registry.NetworkInfo.no_graph`; is raised then.

    Raises
    ------
    InputError
        The network cannot be exported, or the graph computes something else: with the reason.
    """
    if why_not:
        raise InputError(why_not)
    try:
        import onnx
        import torch

        runtime()  # to compare
    except ImportError as error:
        raise InputError(f"a package is missing ({error}): pip install onnx onnxruntime") from error
    example = torch.zeros(1, network.context, 70, 90)
    file = io.BytesIO()
    sizes = {0: "batch", 2: "rows", 3: "columns"}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # where it prints all of a graph
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network, (example,), file,  # type: ignore[arg-type]  # which it takes
                dynamo=False, opset_version=OPSET, do_constant_folding=False,
                training=torch.onnx.TrainingMode.PRESERVE,  # which leaves every weight as it is stored
                input_names=[INPUT], output_names=[OUTPUT], dynamic_axes={INPUT: sizes, OUTPUT: sizes},
            )  # fmt: skip
    except (RuntimeError, TypeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
        raise InputError(f"PyTorch cannot write it as ONNX ({(str(error).splitlines() or ['?'])[0]})") from error
    model = onnx.load_model_from_string(file.getvalue())
    weights = {
        name: tensor.detach().numpy() for name, tensor in network.state_dict().items() if tensor.is_floating_point()
    }
    stored = [each for each in model.graph.initializer if each.name in weights]
    if len(stored) < len(weights):
        raise InputError("PyTorch merges its weights when it writes it as ONNX")
    for initializer in stored:
        _take_out(initializer)
    if other := {node.domain for node in model.graph.node} - {"", "ai.onnx"}:
        raise InputError(f"it uses operators of {', '.join(sorted(other))}, which not every engine has")
    graph = model.SerializeToString()
    if len(graph) > MOST_GRAPH_BYTES:
        raise InputError(f"its graph has {len(graph) >> 20} MB without weights, more than {MOST_GRAPH_BYTES >> 20}")
    _compare(network, graph, weights)
    return graph


def runtime() -> ModuleType:
    """The package onnxruntime, which would otherwise keep a number for this device, and report what it runs.

    Raises
    ------
    InputError
        It cannot be loaded, is too old, or computes on other devices only.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"onnxruntime cannot be loaded ({' '.join(str(error).split())}): install it again, or choose engine 'torch'"
        ) from error
    version, oldest = onnxruntime.__version__, ".".join(map(str, OLDEST_RUNTIME))
    if tuple(map(int, version.split(".")[:2])) < OLDEST_RUNTIME:
        raise InputError(
            f"onnxruntime {version} is too old: pip install 'onnxruntime>={oldest}', or choose engine 'torch'"
        )
    if _CPU not in onnxruntime.get_available_providers():
        raise InputError(
            f"this onnxruntime {version} has no {_CPU}: install the package 'onnxruntime', or choose engine 'torch'"
        )
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def session(graph: bytes, weights: Mapping[str, np.ndarray], threads: int = 0) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU, ready to run a graph with its weights, in so many threads a run (0: a core each).

    Raises
    ------
    InputError
        The graph is damaged, wants other weights, has operators that ONNX Runtime does not know, or ONNX Runtime cannot
        be used, see `runtime`.
    """
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others want the cores, too
    options.intra_op_num_threads = threads
    # A graph cannot have a file of the working directory read in place of weights that we do not hand over.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for value in weights.values()]
    options.add_external_initializers(list(weights), values)
    try:
        made = onnxruntime.InferenceSession(graph, options, providers=[_CPU])
    except Exception as error:  # ONNX Runtime's own classes have no common root
        raise InputError(f"ONNX Runtime {onnxruntime.__version__} cannot run it ({reason(error)})") from error
    ends = [each.name for each in (*made.get_inputs(), *made.get_outputs())]
    if ends != [INPUT, OUTPUT]:
        raise InputError(f"it goes from and to {', '.join(ends)}, not from {INPUT} to {OUTPUT}")
    return made


def reason(error: Exception) -> str:
    """What ONNX Runtime says, in a line."""
    return " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")[:300]


def _take_out(initializer: Any) -> None:
    """Leave name, type and shape of a weight: its values are somewhere else."""
    import onnx

    size = len(initializer.raw_data)
    initializer.ClearField("raw_data")
    initializer.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "weights"), ("offset", "0"), ("length", str(size))):
        entry = initializer.external_data.add()
        entry.key, entry.value = key, value


def _compare(network: Network, graph: bytes, weights: Mapping[str, np.ndarray]) -> None:
    import torch

    runner = session(graph, weights)
    random = np.random.default_rng(0)
    for batch, rows, columns in _EXAMPLES:
        slices = random.normal(-0.5, 0.4, (batch, network.context, rows, columns)).astype(np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(slices)).numpy()
        try:
            (found,) = runner.run([OUTPUT], {INPUT: slices})
        except Exception as error:  # as above
            raise InputError(
                f"its graph holds for one size of slices only ({' '.join(str(error).split())[:200]})"
            ) from error
        difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
        if not difference <= MOST_DIFFERENCE:
            raise InputError(f"its graph computes something else, by {1000 * difference:g} HU")
