"""Which rule of a node fits a series, by the header of one of its slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import InputError
from ..io.dicom_file import Elements, read_dataset
from .settings import DENOISE, KEEP, Rule

_TAGS = [
    "SpecificCharacterSet",
    "SeriesDescription",
    "ConvolutionKernel",
    "ImageType",
    "SliceThickness",
    "SharedFunctionalGroupsSequence",
]


@dataclass(frozen=True)
class Facts:
    """What rules ask of a series; empty, or None, where its header does not say it."""

    description: str
    kernel: str
    image_type: str
    thickness: float | None


def facts_of(path: Path) -> Facts:
    """Of the series of a DICOM file, which may be enhanced; `InputError` if it cannot be read."""
    dataset = read_dataset(path, _TAGS)
    groups = Elements([dataset], path.name).items("SharedFunctionalGroupsSequence")
    inner = [
        item
        for keyword in ("CTReconstructionSequence", "PixelMeasuresSequence")
        for group in groups
        for item in Elements([group], path.name).items(keyword)
    ]
    elements = Elements([dataset, *inner], path.name)
    return Facts(
        elements.text("SeriesDescription"),
        elements.text("ConvolutionKernel"),
        elements.text("ImageType"),
        elements.number("SliceThickness"),
    )


def first_that_fits(rules: Sequence[Rule], facts: Facts) -> int | None:
    """The number of the rule that counts for a series; None if none fits.

    Examples
    --------
    >>> rules = (Rule(image_type="*localizer*"), Rule(kernel="b5?f", thickness=(0, 3)))
    >>> first_that_fits(rules, Facts("Chest", "B50f", "ORIGINAL\\\\PRIMARY\\\\AXIAL", 2.5))
    1
    >>> first_that_fits(rules, Facts("Chest", "B50f", "ORIGINAL\\\\PRIMARY\\\\AXIAL", None)) is None
    True
    """
    return next((number for number, rule in enumerate(rules) if _fits(rule, facts)), None)


def spoken(rule: Rule) -> str:
    """What a rule does, for people."""
    if rule.action == KEEP:
        return "is kept here and not sent"
    places = ", ".join(rule.destinations)
    if rule.action != DENOISE:
        return f"is sent on as it is to {places}"
    how = rule.denoise
    failed = "; sent on as it is if that fails" if rule.forward_failed else ""
    first = ", before all others" if rule.urgent else ""
    return (
        f"is denoised with {how.model or 'the default model'} at strength {how.strength:g}{first}, for {places}{failed}"
    )


def of_series(rules: Sequence[Rule], path: Path) -> tuple[Facts, int | None]:
    """Facts and rule of a DICOM file, or of the first one in a folder."""
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no file: give a DICOM series")
    facts = facts_of(files[0])
    return facts, first_that_fits(rules, facts)


def _fits(rule: Rule, facts: Facts) -> bool:
    patterns = (
        (rule.description, facts.description),
        (rule.kernel, facts.kernel),
        (rule.image_type, facts.image_type),
    )
    if not all(fnmatchcase(text.casefold(), pattern.casefold()) for pattern, text in patterns if pattern):
        return False
    if rule.thickness is None:
        return True
    low, high = rule.thickness
    return facts.thickness is not None and low <= facts.thickness <= high
