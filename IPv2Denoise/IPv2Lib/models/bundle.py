"""A trained model on disk: a folder with `model.safetensors` (weights) and `model.json` (its card).

Owns the checks when a bundle is read, the places where bundles are looked for, and writing one. What a card says is
`card`'s matter, what the weights compute `networks`', how they are applied `denoise`'s. A bundle is data: reading one
never executes anything of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..errors import BundleError, InputError, InputNote, OutputError, reason
from ..io import atomic, outputs, user_folders
from ..io.file_names import within
from ..networks import registry
from . import card as cards
from . import graph, quantization
from .card import CARD_FILE, CardGraph, ModelCard

if TYPE_CHECKING:
    import onnxruntime
    import torch

    from ..networks.registry import Network

WEIGHTS_FILE = "model.safetensors"
HU_RANGE = (-3000, 4000)  # of what is trained here: beyond nearly all that noise makes of a chest
_FEW_WEIGHTS = 1_000_000  # are soon made, and then it can be said what does not fit
_MOST_WEIGHTS_BYTES = 4 << 30


@dataclass(frozen=True)
class Bundle:
    """A model whose card is valid and whose weights have the card's hash; made by `load` and `save`.

    Attributes
    ----------
    folder : Path
        Where it lies.
    card : ModelCard
    """

    folder: Path
    card: ModelCard

    @property
    def name(self) -> str:
        """The name by which `load` finds it."""
        return self.card.name

    @property
    def hash(self) -> str:
        """SHA-256 of the weights, 64 hexadecimal digits."""
        return self.card.sha256

    @property
    def key(self) -> str:
        """SHA-256 of all that decides what the model makes of a scan, 64 hexadecimal digits: weights and card.

        Models with one key give the same results. What the card says to people only does not count.
        """
        deciding = self.card.as_dict(deciding_only=True)
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    @property
    def has_graph(self) -> bool:
        """Whether it runs without PyTorch."""
        return self.card.graph is not None

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by name, float32 but for those that are whole numbers.

        Raises
        ------
        BundleError
            If they are damaged or not finite.
        """
        import safetensors
        import safetensors.numpy

        data = _read_weights(self.folder, self.hash)
        path = self.folder / WEIGHTS_FILE
        try:
            stored = safetensors.numpy.load(data)
        except (safetensors.SafetensorError, KeyError) as error:  # KeyError: a type that numpy does not have
            raise BundleError(f"{path} is not a safetensors file ({error}): copy the model again") from error
        try:
            state = quantization.unpack(stored)
        except ValueError as error:
            raise BundleError(f"{path}: {error}; copy the model again") from error
        for key, array in state.items():
            if not np.isfinite(array).all():
                raise BundleError(f"{path}: weight {key!r} is not finite everywhere; train the model again")
            if array.dtype.kind == "f":
                state[key] = array.astype(np.float32)
        return state

    def network(self) -> Network:
        """The network with its weights: float32, in evaluation mode, on the CPU.

        Raises
        ------
        BundleError
            If the network is unknown, or the weights are damaged, not finite or of another network.
        """
        import torch

        path = self.folder / WEIGHTS_FILE
        state = {key: torch.from_numpy(array) for key, array in self.weights().items()}
        name, arguments = self.card.network.name, self.card.network.arguments
        try:
            if "most_weights" in arguments:
                raise InputError("the network has no argument 'most_weights'")
            most = max(sum(tensor.numel() for tensor in state.values()), _FEW_WEIGHTS)
            network = registry.build(name, most_weights=most, **arguments)
        except InputError as error:
            raise BundleError(f"{self.folder / CARD_FILE}, key 'network': {error}") from error
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            mismatch = " ".join(str(error).split())
            raise BundleError(
                f"{path} does not fit network {name!r} with the arguments {arguments} of the card; use the "
                f"card and the weights of one training run ({mismatch})"
            ) from error
        return network.float().eval().requires_grad_(False)

    def session(self, threads: int = 0) -> onnxruntime.InferenceSession:
        """The network with its weights, in ONNX Runtime on the CPU; `threads` as for `graph.session`.

        Raises
        ------
        InputError
            ONNX Runtime cannot be used, see `graph.runtime`.
        BundleError
            There is no graph, it is damaged or of another model, or ONNX Runtime is too old for it.
        """
        graph.runtime()
        path = _own(self.folder, graph.GRAPH_FILE)
        if self.card.graph is None:
            raise BundleError(f"{self.folder} has no {graph.GRAPH_FILE}, so it runs on PyTorch only: --engine torch")
        data = _read_file(path, self.card.graph.sha256, graph.MOST_GRAPH_BYTES)
        weights = {key: array for key, array in self.weights().items() if array.dtype.kind == "f"}
        try:
            return graph.session(data, weights, threads)
        except InputError as error:
            raise BundleError(f"{path}: {error}; copy the model again, or use --engine torch") from error


def load(name_or_folder: str | Path | None = None) -> Bundle:
    """Find a bundle by name, or read the one in a folder.

    A text is first taken for the name of an installed bundle, then for a folder; a `Path` is always a folder. None is
    the bundle that is used if nobody chooses.

    Raises
    ------
    BundleError
        If there is no such bundle, its card is not valid, or its weights do not have the hash on the card.
    """
    if name_or_folder is None:
        name_or_folder = default_name()
    if isinstance(name_or_folder, str):
        found, problems = scan()
        for bundle in found:
            if bundle.name == name_or_folder:
                return bundle
        if not Path(name_or_folder).is_dir():
            known = ", ".join(sorted(bundle.name for bundle in found)) or "none"
            broken = f"; not usable: {'; '.join(map(str, problems))}" if problems else ""
            raise BundleError(
                f"no model {name_or_folder!r}: give the name of an installed one ({known}) or the folder of one{broken}"
            )
    folder = Path(name_or_folder)
    return Bundle(folder, _read_card(folder))


def available() -> list[Bundle]:
    """Every usable bundle in `folders()`, sorted by name; `scan` also tells about the others."""
    return sorted(scan()[0], key=lambda bundle: bundle.name)


def scan() -> tuple[list[Bundle], list[BundleError]]:
    """Look through `folders()`.

    Returns
    -------
    bundles : list of Bundle
        The usable ones, those of the first folder first.
    problems : list of BundleError
        What is wrong with each of the others. Of two with one name the first counts.
    """
    bundles: dict[str, Bundle] = {}
    problems: list[BundleError] = []
    for parent in folders():
        try:
            candidates = sorted(path.parent for path in parent.glob(f"*/{CARD_FILE}"))
        except OSError as error:
            problems.append(BundleError(f"the model folder {parent} cannot be read: {reason(error)}"))
            continue
        for folder in candidates:
            if folder.name.startswith("."):
                continue  # being written by `save`
            try:
                bundle = load(folder)
            except BundleError as error:
                problems.append(error)
                continue
            first = bundles.setdefault(bundle.name, bundle)
            if first is not bundle:
                clash = f"{folder} has the name {bundle.name!r} of {first.folder}: rename one of them"
                problems.append(BundleError(clash))
    return list(bundles.values()), problems


def default_name(device: str = "cpu") -> str:
    """Name of the bundle to use on a device if nobody chooses, see `default_among`.

    Raises
    ------
    BundleError
        If no usable bundle is installed.
    """
    bundles, problems = scan()
    if not bundles:
        raise BundleError(
            "no model is installed: give the folder of one, or set IPV2_MODELS to a folder of model folders"
            + "".join(f"; {problem}" for problem in problems)
        )
    return default_among(bundles, device).name


def default_among(bundles: Sequence[Bundle], device: str = "cpu") -> Bundle:
    """The bundle to use on a device if nobody chooses.

    Parameters
    ----------
    bundles : sequence of Bundle
        At least one.
    device : str
        As `torch_device.choose_device` returns it; "auto", not yet known, counts as "cpu". The card of a bundle can say
        that it is the default on "cpu" or on "gpu", or with true on both. If none says so of this kind of device, it is
        the first that is a default at all, else the first.
    """
    kind = "cpu" if device in ("cpu", "auto") else "gpu"

    def fits(bundle: Bundle) -> int:
        default = bundle.card.default
        return 3 if default == kind else 2 if default is True else 1 if default else 0

    return max(bundles, key=fits)  # of several that fit alike the first


def folders() -> list[Path]:
    """Folders whose subfolders may be bundles: the library's own, those in IPV2_MODELS, the user's."""
    library = Path(__file__).resolve().parents[1]
    packaged, checkout = (place / "Resources" / "Models" for place in (library, library.parents[1]))
    listed = [Path(text) for text in os.environ.get("IPV2_MODELS", "").split(os.pathsep) if text]
    places = [packaged if packaged.is_dir() else checkout, *listed, user_folder()]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def user_folder() -> Path:
    """Where a user's own models belong on this system; it need not exist."""
    try:
        return user_folders.data() / "Models"
    except RuntimeError:  # no HOME, and a user whom the system does not know, as in a container
        return Path("/nonexistent/IPv2/Models")


def save(
    folder: str | Path,
    network_name: str,
    arguments: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    card: Mapping[str, Any],
    bits: int = 16,
    with_graph: bool = False,
) -> Bundle:
    """Write a bundle, check that it loads, and only then give it its name.

    Parameters
    ----------
    folder : str or Path
        Where it will lie. A bundle that is there already is replaced.
    network_name, arguments
        As for `registry.build`; the arguments must be expressible in JSON.
    state_dict : mapping of str to Tensor
        The network's weights.
    card : mapping
        The remaining keys of `model.json`. `name` is the folder's name, `created` today and `versions` those
        that run now, unless given.
    bits : 32, 16 or 8
        Of each weight in the file; they run as float32. With 8 see `quantization`.
    with_graph : bool
        Write its graph as well, so that it runs without PyTorch. Where that cannot be, an `InputNote` says why.

    Raises
    ------
    BundleError
        If the card is not valid, or the weights are not finite or do not fit the network.
    OutputError
        If the folder cannot be written, or holds something else than a bundle.
    """
    import safetensors.torch
    import torch

    folder = Path(os.path.abspath(folder))
    if folder.exists() and not (folder / CARD_FILE).is_file():
        raise OutputError(f"{folder} exists and is not a model: choose another folder")
    weights = {key: tensor.detach().cpu() for key, tensor in state_dict.items()}
    if bits == 8:
        weights = quantization.pack(weights)
    else:
        stored = {16: torch.float16, 32: torch.float32}[bits]
        weights = {key: tensor.to(stored) if tensor.is_floating_point() else tensor for key, tensor in weights.items()}
    weights = {key: tensor.clone().contiguous() for key, tensor in weights.items()}
    data = safetensors.torch.save(weights)
    full = {
        "name": folder.name,
        "created": date.today().isoformat(),
        "versions": {"IPv2Lib": __version__, "torch": torch.__version__},
        **card,
        "format_version": 2 if bits == 8 else 1,
        "network": {"name": network_name, "arguments": dict(arguments)},
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    known = [each.name for each in fields(ModelCard)]
    full = {key: full[key] for key in (*known, *full) if key in full and key != "graph"}  # that of other weights
    check_name(full["name"])
    with atomic.new_folder(folder) as fresh:
        (fresh / WEIGHTS_FILE).write_bytes(data)
        _write_card(fresh, full)
        network = load(fresh).network()
        if with_graph:
            _write_graph(fresh, full, network)
    return load(folder)


def _write_card(folder: Path, card: dict[str, Any]) -> None:
    try:
        text = json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(f"the card of model {card['name']!r} cannot be written as JSON: {error}") from error
    (folder / CARD_FILE).write_text(text, encoding="utf-8")


def _write_graph(folder: Path, card: dict[str, Any], network: Network) -> None:
    try:
        data = graph.export(network, registry.summary(card["network"]["name"]).no_graph)
    except InputError as error:
        warnings.warn(InputNote(f"{card['name']} will run on PyTorch only: {error}"), stacklevel=3)
        return
    (folder / graph.GRAPH_FILE).write_bytes(data)
    known = CardGraph(hashlib.sha256(data).hexdigest(), **graph.facts(network))
    _write_card(folder, card | {"graph": vars(known)})
    load(folder).session()


def check_name(name: str) -> None:
    """Refuse (`BundleError`) what cannot be the name of a model, or not of its folder on every system."""
    if not cards.is_name(name) or outputs.file_name(name) != name:
        raise BundleError(
            f"{name!r} is no name of a model: use letters, digits, '.', '_' and '-', a letter or digit first"
        )


def _read_card(folder: Path) -> ModelCard:
    """The card in a folder after every check that needs no torch, the hash of the weights included."""
    path = _own(folder, CARD_FILE)
    if not path.is_file():
        raise BundleError(f"{folder} is not a model: it has no {CARD_FILE}; give the folder that has it")
    card = cards.read(path)
    _read_weights(folder, card.sha256)
    return card


def _own(folder: Path, name: str) -> Path:
    """A file of a model, which may not be a link to somewhere else."""
    try:
        return within(folder, name)
    except InputError as error:
        raise BundleError(str(error)) from error


def _read_weights(folder: Path, expected: str) -> bytes:
    """The weights as stored, after their hash was found to be the card's."""
    return _read_file(_own(folder, WEIGHTS_FILE), expected, _MOST_WEIGHTS_BYTES)


def _read_file(path: Path, expected: str, most_bytes: int) -> bytes:
    """A file of a model, after its hash was found to be the card's."""
    try:
        if path.exists() and not path.is_file():
            raise BundleError(f"{path} is no file: copy the model again")
        if path.stat().st_size > most_bytes:
            raise BundleError(f"{path} is larger than {most_bytes >> 20} MiB, which no model is: remove it")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(f"{path.parent} has no {path.name}: copy the model again, all its files") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {reason(error)}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise BundleError(
            f"{path} is truncated or changed: its SHA-256 begins with {digest[:12]}, that on the card with "
            f"{expected[:12]}; copy the model again"
        )
    return data
