"""The `ipv2` command: `demo`, `denoise`, `purify`, `simulate`, `evaluate`, `models`, `devices`, `phantom`; more of them
in the other files `cli_*`.

Owns the options, the order of checking, reading and writing, and what is said at the end. It holds no image
arithmetic. The library is imported inside the commands: `--help` needs no torch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .. import __version__
from ..errors import InputError
from ..inference.options import DenoiseOptions
from ..io import outputs
from ..io.file_names import suffix
from ..io.locks import owned
from ..parallel.options import Workers
from ..purification.settings import IPV1, IPV2, Settings
from . import arguments, comparison, convert, convert_frames, dataset
from . import cohort as cli_cohort
from . import training as cli_training
from .console import BAD_INPUT, SUCCESS, Console, open_standard_streams
from .options import (
    INPUT,
    LOADING,
    OUTPUT,
    Notes,
    add_compress,
    add_overwrite,
    add_prefer,
    add_runner,
    aligned,
    compress,
    load_model,
    preferred,
    read,
    whole_number,
    with_prefix,
)

if TYPE_CHECKING:
    from ..analysis.regions import RegionStatistics
    from ..models.bundle import Bundle
    from ..purification.purification import Stages


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of this process.

    Returns
    -------
    int
        Exit code: 0; 2 after a one-line error about the input; 130 if stopped; 1 after the traceback of a bug.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    open_standard_streams()
    # Torch's threads then sleep, not spin, while they wait: several times faster on a machine with other work to do.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without σ still shows its number
    parser = _parser(argv[:1])
    if not argv:
        parser.print_help(sys.stderr)
        return BAD_INPUT
    console = Console(json_lines="--json" in argv)
    known = argv[0] in _COMMANDS

    def run() -> None:
        options = parser.parse_args(argv)
        with preferred(getattr(options, "prefer", None)), _unreadable_for_others(argv[0]):
            options.run(options, console)

    try:
        return console.run(f"ipv2 {argv[0]}" if known else "ipv2", run, finish_step=argv[0] in _FINISH_STEP)
    except SystemExit:  # --help and --version
        return SUCCESS


@contextlib.contextmanager
def _unreadable_for_others(command: str) -> Iterator[None]:
    """Let nobody but the user read what is written, as it is of patients; but for models, which are given away."""
    if command == "publish":
        yield
        return
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are the library's: one line, exit code 2, JSON where asked for."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _parser(only: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands, or one that knows the options of some `only`, which is imported faster."""
    parser = _Parser(
        prog="ipv2",
        description=f"Purify and denoise ultra-low-dose chest CT. {outputs.RESEARCH}",
        epilog="Begin with 'ipv2 demo'. 'ipv2 COMMAND --help' explains each command.",
    )
    parser.add_argument("--version", action="version", version=f"IPv2 {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (summary, add_options, run) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        command.set_defaults(run=run)
        if only is not None and name not in only:
            continue
        add_options(command)
        if name not in _READ_NO_CT:
            add_prefer(command)
        command.add_argument(
            "--json", action="store_true", help="write progress and result as one JSON object per line"
        )
    return parser


# --- demo ---------------------------------------------------------------------------------------------------


def _add_model_and_device(command: argparse.ArgumentParser) -> None:
    arguments.add(command, DenoiseOptions, only=("model", "device"))


def _demo_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Show the whole method on a synthetic chest, in about a minute and without any data: a scan at 2 % dose\n"
        "and one at normal dose with another breath are purified and denoised, and scored against the truth.\n"
        "The report has pictures of every stage and a table. The results of an earlier demo are replaced."
    )
    command.epilog = "example:\n  ipv2 demo --out my-demo"
    command.add_argument(
        "--out", type=Path, default=Path("ipv2-demo"), metavar="FOLDER", help="where to write (default: %(default)s)"
    )
    _add_model_and_device(command)
    command.add_argument("--seed", type=whole_number, default=0, help="another number, another chest (default: 0)")


def _demo(options: argparse.Namespace, console: Console) -> None:
    console.progress(0.0, LOADING)
    from ..inference.denoise import choose_device
    from . import demo

    how = arguments.chosen(options, DenoiseOptions())
    device = choose_device(how.device)
    model = load_model(how.model, device)
    with outputs.new_folder(options.out, "demo", True) as folder:
        found = demo.run(
            folder, model, seed=options.seed, device=device, progress=console.progress, cancelled=console.cancelled
        )
        outputs.write_json(folder / outputs.PROVENANCE_FILE, outputs.provenance("demo", found.provenance))
    for note in found.notes:
        console.note(note)
    report = options.out / "report.html"
    console.result(
        f"{demo.table(found.scores)}\n\nOpen {report} in a browser.",
        command="demo", report=str(report), provenance=found.provenance,
        scores={name: score.as_dict() for name, score in found.scores.items()},
    )  # fmt: skip


# --- denoise ------------------------------------------------------------------------------------------------


def _denoise_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Remove the noise of a low-dose chest CT. The result has the geometry of the input and its HU; padding\n"
        f"outside the field of view comes back unchanged. {outputs.RESEARCH}\n"
        "OUTPUT.json, beside the output, says which model made it, and how.\n"
        "Several inputs are denoised one after another into the new folder OUTPUT, each as NAME.nrrd.\n"
        "With --workers, --scheduler or --retries, inputs that fail do not stop the others: OUTPUT/report.csv says\n"
        "why, and the same command again goes on after a stop."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 denoise scan.nrrd denoised.nrrd\n"
        "  ipv2 denoise dicom-folder denoised-folder       a DICOM series that keeps patient and study\n"
        "  ipv2 denoise scan.nii.gz half.nii.gz --strength 0.5 --statistics\n"
        "  ipv2 denoise a.nrrd b.nrrd c.nrrd denoised      denoised/a.nrrd, denoised/b.nrrd, denoised/c.nrrd\n"
        "  ipv2 denoise cohort/* denoised --workers 4      as many as there are, four at a time"
    )
    command.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help=INPUT)
    # As text: a path would lose the slash at the end.
    command.add_argument("output", metavar="OUTPUT", help=f"{OUTPUT}; of several inputs, a new folder")
    arguments.add_settings(command)
    arguments.add(command, DenoiseOptions)
    add_overwrite(command)
    add_runner(command)


def _denoise(options: argparse.Namespace, console: Console) -> None:
    console.progress(0.0, LOADING)
    from ..inference.denoise import choose_device, noise_to_keep

    how = arguments.chosen(options, DenoiseOptions())
    if arguments.given(options, Workers).get("scheduler") is None:
        how = replace(how, device=choose_device(how.device))
    model = load_model(how.model, how.device)
    how = replace(how, kept_noise_hu=noise_to_keep(model, how.kept_noise_hu))
    if len(options.inputs) > 1 or cli_cohort.is_cohort(options):
        options.output = Path(options.output)
    if cli_cohort.is_cohort(options):
        cli_cohort.denoise_cohort(options, how, model, console)
        return
    if len(options.inputs) > 1:
        _denoise_several(options, how, model, console)
        return
    (source,) = options.inputs
    outputs.check_output(options.output, source, options.overwrite)
    notes = Notes(console)
    with owned(Path(options.output), "denoise"):
        facts, table = _denoise_one(source, options.output, model, how, console.progress, notes, console)
    console.result(
        f"{options.output}: denoised with {model.name} at strength {how.strength:g}{table}",
        command="denoise", output=str(options.output), sidecar=str(outputs.sidecar_path(options.output)), **facts,
        notes=notes.texts,
    )  # fmt: skip


def _denoise_several(options: argparse.Namespace, how: DenoiseOptions, model: Bundle, console: Console) -> None:
    if suffix(options.output) in outputs.SUFFIXES:
        raise InputError(f"{options.output} is one file for {len(options.inputs)} inputs: give a new folder's name")
    names = outputs.unique_names(options.inputs)
    lines = [f"{options.output}: denoised with {model.name} at strength {how.strength:g}"]
    notes, concerns, results = Notes(console), [], []
    with outputs.new_folder(options.output, "denoise", False, *options.inputs) as folder:
        for index, source in enumerate(options.inputs):  # all are seen before any long work
            console.progress(0.05 * index / len(options.inputs), f"checking {source.name}")
            concerns.append(read(source, None, model.card)[1])
        for source, sentences in zip(options.inputs, concerns, strict=True):
            notes.say(source, sentences)
        for index, (source, name) in enumerate(zip(options.inputs, names, strict=True)):
            tell = console.part(0.05 + 0.95 * index / len(names), 0.05 + 0.95 * (index + 1) / len(names))
            place = f"{index + 1} of {len(names)}, {source.name}: "
            facts, table = _denoise_one(
                source, folder / f"{name}.nrrd", model, how, with_prefix(tell, place), notes, console
            )
            output = options.output / f"{name}.nrrd"
            lines.append(f"  {output.name} from {source}{table}")
            results.append(
                {"input": str(source), "output": str(output), "sidecar": str(outputs.sidecar_path(output)), **facts}
            )
    console.result("\n".join(lines), command="denoise", output=str(options.output), results=results, notes=notes.texts)


def _denoise_one(
    source: Path, output: str | Path, model: Bundle, how: DenoiseOptions,
    tell: Callable[[float, str], None], notes: Notes, console: Console,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Read, denoise, write; return provenance and statistics, and the latter as a table for people."""
    from ..analysis.regions import StrengthStatistics
    from ..inference.cohort import denoise_to_file

    tell(0.0, "reading")
    volume, concerns = read(source, notes, model.card)
    facts = denoise_to_file(
        volume, source, output, model, how, concerns=concerns, progress=tell, cancelled=console.cancelled
    )
    if not how.statistics:
        return facts, ""
    return facts, f"\n{_region_table(StrengthStatistics.from_dict(facts['statistics']).at(how.strength))}"


def _region_table(rows: Sequence[RegionStatistics]) -> str:
    from ..evaluation.agreement import number

    return aligned(
        [("in HU", "mean before", "after", "σ before", "after", "removed, %")]
        + [
            (
                row.region.label,
                *map(number, (row.mean_before, row.mean_after, row.sigma_before, row.sigma_after)),
                number(100 * row.noise_reduction, 0),
            )
            for row in rows
        ]
    )


# --- purify -------------------------------------------------------------------------------------------------


def _purify_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "From an ultra-low-dose and a normal-dose CT of one patient, build the images whose anatomy agrees:\n"
        "training input and test label, with every mask and image on the way. An NDCT on another grid is\n"
        "resampled onto that of the uLDCT. FOLDER gets each stage as NRRD (masks as 0 and 1), labels.nrrd\n"
        "(1 background, 2 lung and airways, 3 body, 0 outside the field of view), stages.png and provenance.json."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 purify uldct.nrrd ndct.nrrd stages\n"
        "  ipv2 purify uldct.nrrd ndct.nrrd stages --strategy ipv1 --blend 0.2\n"
        "  ipv2 purify uldct.nrrd ndct.nrrd stages --no-add-noise       a row of the ablation"
    )
    command.add_argument("uldct", type=Path, metavar="ULDCT", help=f"ultra-low-dose CT: {INPUT}")
    command.add_argument("ndct", type=Path, metavar="NDCT", help="normal-dose CT of the same patient, likewise")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="new folder for the stages")
    command.add_argument(
        "--overwrite", action="store_true", help="replace FOLDER if it holds the stages of an earlier run"
    )
    command.add_argument(
        "--pictures", action=argparse.BooleanOptionalAction, default=True, help="draw stages.png (default: yes)"
    )
    add_compress(command)
    arguments.add_settings(command)
    command.add_argument("--strategy", choices=("ipv1", "ipv2"), default="ipv2", help="(default: %(default)s)")
    arguments.add(command, Settings)
    command.add_argument(
        "--first-slice", type=whole_number, metavar="N", default=0,
        help="number of the first slice, where ULDCT is a part of a scan: each has noise of its own (default: 0)",
    )  # fmt: skip


def _purify(options: argparse.Namespace, console: Console) -> None:
    from ..datasets.patients import check_pair
    from ..purification import stage_files
    from ..purification.purification import purify

    settings = arguments.chosen(options, {"ipv1": IPV1, "ipv2": IPV2}[options.strategy])
    check_pair(options.uldct, options.ndct)
    notes = Notes(console)
    with outputs.new_folder(options.folder, "purify", options.overwrite, options.uldct, options.ndct) as folder:
        console.progress(0.0, "reading")
        (uldct, _), (ndct, _) = read(options.uldct, notes), read(options.ndct, notes)
        stages = purify(
            uldct, ndct, settings, first_slice=options.first_slice,
            progress=console.part(0.05, 0.7), cancelled=console.cancelled,
        )  # fmt: skip
        files = stage_files.write_stages(stages, folder, compress=compress(options), progress=console.part(0.7, 0.9))
        if options.pictures:
            console.progress(0.9, "drawing")
            if _draw_stages(stages, folder / "stages.png", console):
                files["stages.png"] = "the stages side by side"
        facts = outputs.provenance(
            "purify", uldct=options.uldct.name, ndct=options.ndct.name,
            input_sha256={"uldct": uldct.sha256(), "ndct": ndct.sha256()}, strategy=options.strategy,
            settings=asdict(settings), concerns=notes.texts, files=files,
        )  # fmt: skip
        outputs.write_json(folder / outputs.PROVENANCE_FILE, facts)
    files = "\n".join(f"  {name:24} {title}" for name, title in facts["files"].items())
    console.result(
        f"{options.folder}: purified by {options.strategy}\n{files}",
        command="purify", folder=str(options.folder), provenance=facts, notes=notes.texts,
    )  # fmt: skip


def _draw_stages(stages: Stages, path: Path, console: Console) -> bool:
    from .demo import NO_PICTURES

    try:
        from IPv2SlicerLib.scene import volume_nodes

        from . import pictures
    except ImportError as error:
        console.note(NO_PICTURES.format(error))
        return False
    volume_nodes.save_png(pictures.stages_picture(stages), path)
    return True


# --- simulate -----------------------------------------------------------------------------------------------


def _simulate_options(command: argparse.ArgumentParser) -> None:
    command.description = "Add the noise that a CT would have at a fraction of its dose. Resolution and HU stay."
    command.epilog = (
        "examples:\n"
        "  ipv2 simulate ndct.nrrd uldct.nrrd --dose 0.02              2 % of the dose\n"
        "  ipv2 simulate ndct.nrrd quarter.nrrd --dose 0.25 --match    noise like that of this very scan"
    )
    command.add_argument("input", type=Path, metavar="NDCT", help=INPUT)
    command.add_argument("output", metavar="OUTPUT", help=OUTPUT)
    command.add_argument("--dose", type=float, required=True, help="dose fraction, above 0 to 1; 0.02 is 2 %%")
    command.add_argument(
        "--method", choices=("physical", "published"), default="physical",
        help="physical: photons counted behind the patient; published: the authors' constants (default: %(default)s)",
    )  # fmt: skip
    look = command.add_mutually_exclusive_group()
    look.add_argument(
        "--kernel", default="hann", metavar="NAME",
        help="look of the noise: soft, hann, ramp, sharp, or a number from -1 to 2 (default: %(default)s)",
    )  # fmt: skip
    look.add_argument(
        "--match", action="store_true", help="measure look and strength of the noise from the scan itself"
    )
    command.add_argument("--seed", type=whole_number, default=0, help="same seed, same noise (default: %(default)s)")
    arguments.add(command, DenoiseOptions, only=("device",))
    add_overwrite(command)


def _simulate(options: argparse.Namespace, console: Console) -> None:
    console.progress(0.0, LOADING)
    from ..inference.denoise import choose_device
    from ..simulation import dose

    device = choose_device(arguments.chosen(options, DenoiseOptions()).device)
    outputs.check_output(options.output, options.input, options.overwrite)
    console.progress(0.0, "reading")
    notes = Notes(console)
    volume, concerns = read(options.input, notes)
    kernel: Any = options.kernel
    photons = dose.PHOTONS
    if options.match:
        console.progress(0.05, "measuring the scan's noise")
        photons, kernel = dose.match_scan(volume)
    result = dose.simulate(
        volume, options.dose, method=options.method, seed=options.seed, kernel=kernel, photons=photons,
        device=device, progress=console.part(0.1, 0.95), cancelled=console.cancelled,
    )  # fmt: skip
    console.progress(0.95, "writing")
    facts = outputs.provenance(
        "simulate", input=options.input.name, input_sha256=volume.sha256(), dose=options.dose, method=options.method,
        seed=options.seed, device=device, concerns=concerns,
    )  # fmt: skip
    if options.method == "physical":
        facts |= {"photons": photons, "kernel": asdict(kernel) if options.match else kernel}
    description = f"IPv2 simulated {100 * options.dose:g} % dose"
    facts = outputs.save(
        result, options.output, facts, options.input, description, derivation="Pixel by pixel addition"
    )
    console.result(
        f"{options.output}: {options.input.name} at {100 * options.dose:g} % dose",
        command="simulate", output=str(options.output), sidecar=str(outputs.sidecar_path(options.output)),
        provenance=facts, notes=notes.texts,
    )  # fmt: skip


# --- evaluate -----------------------------------------------------------------------------------------------


def _evaluate_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Score a volume against a reference of the same anatomy on the same grid: RMSE inside the body, PSNR and\n"
        "SSIM (values clipped to -1024 to 600 HU), and RMSE, bias and noise in room air, lung, soft tissue, bone."
    )
    command.epilog = "example:\n  ipv2 evaluate denoised.nrrd ndct.nrrd"
    command.add_argument("result", type=Path, metavar="RESULT", help=INPUT)
    command.add_argument("reference", type=Path, metavar="REFERENCE", help="what RESULT should look like, likewise")


def _evaluate(options: argparse.Namespace, console: Console) -> None:
    from ..evaluation import agreement

    console.progress(0.0, "reading")
    notes = Notes(console)
    (result, _), (reference, _) = read(options.result, notes), read(options.reference, notes)
    console.progress(0.2, "comparing")
    scores = agreement.compare(result, reference)
    console.answer(
        agreement.table(scores),
        command="evaluate", result=options.result.name, reference=options.reference.name, **scores.as_dict(),
        notes=notes.texts,
    )  # fmt: skip


# --- models -------------------------------------------------------------------------------------------------


def _models_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "List the installed models, or show the card of one: what it was trained on, how it scored, its limits.\n"
        "Models are looked for in the library, in the folders of the environment variable IPV2_MODELS, and in\n"
        "the user's own folder."
    )
    command.epilog = "examples:\n  ipv2 models\n  ipv2 models my-model"
    command.add_argument("model", nargs="?", metavar="NAME", help="a model's name or folder")


def _models(options: argparse.Namespace, console: Console) -> None:
    from ..models import bundle

    if options.model:
        model = bundle.load(options.model)
        console.answer(_card_text(model), command="models", folder=str(model.folder), card=model.card)
        return
    models, problems = bundle.scan()
    for problem in problems:
        console.note(str(problem))
    if not models:
        bundle.default_name()  # says what to do
    defaults = {kind: bundle.default_among(models, device).name for kind, device in (("CPU", "cpu"), ("GPU", "cuda"))}
    console.answer(
        "\n".join(_model_line(model, defaults) for model in models),
        command="models", default=defaults["CPU"], default_on_gpu=defaults["GPU"],
        models=[{"folder": str(model.folder), "card": model.card} for model in models],
    )  # fmt: skip


def _model_line(model: Bundle, defaults: dict[str, str]) -> str:
    default_on = [kind for kind, name in defaults.items() if name == model.name]
    megabytes = sum(file.stat().st_size for file in model.folder.glob("model.*")) / 1e6
    name = f"{model.name} (default on {' and '.join(default_on)})" if default_on else model.name
    network = model.card["network"]["name"]
    return f"{name}\n  {model.card['title']}\n  {network}, {megabytes:.1f} MB, {model.card['created']}, {model.folder}"


def _card_text(model: Bundle) -> str:
    card = model.card
    sources = [f"  {item['name']} ({item['licence']}). {item['citation']}" for item in card["training"]["data"]]
    metrics = json.dumps(card["metrics"], indent=2, ensure_ascii=False).splitlines()
    noise = card.get("noise_hu")
    return "\n".join(
        [
            f"{card['name']}: {card['title']}",
            card["description"],
            "",
            f"Intended use: {card['intended_use']}",
            f"Limits: {card['limits']}",
            f"Network: {card['network']['name']} {json.dumps(card['network']['arguments'])}",
            f"HU range: {card['hu_range'][0]:g} to {card['hu_range'][1]:g}",
            *([f"Noise: {noise[0]:g} to {noise[1]:g} HU in soft tissue"] if noise else []),
            f"Created: {card['created']}",
            f"SHA-256 of the weights: {model.hash}",
            f"Folder: {model.folder}",
            "Trained on:",
            *sources,
            "Scores:",
            *metrics,
        ]
    )


# --- devices ------------------------------------------------------------------------------------------------


def _devices_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "List what a model can run on here: memory, and the measured time for a slice of 512×512 pixels, by the\n"
        "default model of each device if none is named. 'auto' is what --device auto takes."
    )
    command.epilog = "examples:\n  ipv2 devices\n  ipv2 devices --model my-model"
    arguments.add(command, DenoiseOptions, only=("model",))


def _devices(options: argparse.Namespace, console: Console) -> None:
    console.progress(0.0, LOADING)
    from ..inference import devices

    name = arguments.chosen(options, DenoiseOptions()).model
    found, problems = devices.survey(
        lambda device: load_model(name, device), progress=console.progress, cancelled=console.cancelled
    )
    for problem in problems:
        console.note(problem)
    auto = devices.automatic()
    rows = [("", "a slice", "free", "total")]
    rows += [
        (
            f"{each.device}{' (auto)' if each.device == auto else ''}: {each.name}",
            f"{each.seconds_per_slice:.3f} s",
            "–" if each.free_bytes is None else f"{each.free_bytes / 2**30:.1f} GB",
            f"{each.total_bytes / 2**30:.1f} GB",
        )
        for each in found
    ]
    console.answer(aligned(rows), command="devices", devices=[asdict(each) for each in found], auto=auto)


# --- phantom ------------------------------------------------------------------------------------------------


def _phantom_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Make a synthetic chest scanned twice, for trying things out: FOLDER gets uldct.nrrd, ndct.nrrd with another\n"
        "breath, truth.nrrd (the uLDCT without its noise) and provenance.json. No part is from a person."
    )
    command.epilog = "examples:\n  ipv2 phantom chest\n  ipv2 phantom chest --size 512 --slices 40 --dose 0.05 --seed 3"
    command.add_argument("folder", type=Path, metavar="FOLDER", help="new folder for the scans")
    command.add_argument(
        "--overwrite", action="store_true", help="replace FOLDER if it holds the phantom of an earlier run"
    )
    command.add_argument("--size", type=whole_number, default=256, help="rows and columns (default: %(default)s)")
    command.add_argument("--slices", type=whole_number, default=24, help="(default: %(default)s)")
    command.add_argument("--dose", type=float, default=0.02, help="of the uLDCT, above 0 to 1 (default: %(default)s)")
    command.add_argument("--breath", type=float, default=8.0, metavar="MM", help="-30 to 30 (default: %(default)s)")
    command.add_argument("--seed", type=whole_number, default=0, help="another number, another chest (default: 0)")
    add_compress(command)


def _phantom(options: argparse.Namespace, console: Console) -> None:
    from ..io import ct
    from ..simulation import phantom

    chosen = {name: getattr(options, name) for name in ("size", "slices", "dose", "breath", "seed")}
    facts = outputs.provenance("phantom", chosen)
    with outputs.new_folder(options.folder, "phantom", options.overwrite) as folder:
        console.progress(0.0, "scanning a synthetic chest twice")
        pair = phantom.pair(**chosen)
        for index, name in enumerate(("uldct", "ndct", "truth")):
            console.progress(0.8 + 0.2 * index / 3, f"writing {name}")
            ct.write(getattr(pair, name), folder / f"{name}.nrrd", compress=compress(options))
        outputs.write_json(folder / outputs.PROVENANCE_FILE, facts)
    console.result(
        f"{options.folder}: a synthetic chest, uldct.nrrd, ndct.nrrd and truth.nrrd",
        command="phantom", folder=str(options.folder), provenance=facts,
    )  # fmt: skip


_READ_NO_CT = ("demo", "models", "devices", "phantom")

_FINISH_STEP = ("train", "ablation")
"""Commands that finish the step that they are at when they are asked to stop, and keep what they have."""

_COMMANDS = {
    "demo": ("the whole method on a synthetic chest, with a report", _demo_options, _demo),
    "denoise": ("remove the noise of a low-dose chest CT", _denoise_options, _denoise),
    "purify": ("build training and test images from a uLDCT/NDCT pair", _purify_options, _purify),
    "simulate": ("add the noise of a lower dose to a CT", _simulate_options, _simulate),
    **dataset.COMMANDS,
    **cli_training.COMMANDS,
    **comparison.COMMANDS,
    **convert.COMMANDS,
    **convert_frames.COMMANDS,
    "evaluate": ("score a result against a reference", _evaluate_options, _evaluate),
    "models": ("list the installed models, or show one's card", _models_options, _models),
    "devices": ("list what a model can run on, and how fast it is", _devices_options, _devices),
    "phantom": ("make a synthetic pair of scans", _phantom_options, _phantom),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
