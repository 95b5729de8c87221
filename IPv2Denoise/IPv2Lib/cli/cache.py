"""The command `cache`: what is kept of earlier denoising, and how to remove it."""

from __future__ import annotations

import argparse

from .console import Console


def _cache_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Show, or remove, what 'ipv2 denoise' keeps of what networks answered: images that only you can read, by\n"
        "which the same scan at another strength takes seconds. At most 4 GB; the longest unused go first.\n"
        "The environment variable IPV2_CACHE names another folder, or says 'off'. A cohort (--workers) keeps nothing."
    )
    command.epilog = "examples:\n  ipv2 cache\n  ipv2 cache --clear"
    command.add_argument("--clear", action="store_true", help="remove all of it")


def _cache(options: argparse.Namespace, console: Console) -> None:
    from ..inference import cache

    if options.clear:
        cache.clear()
    folder, (count, used) = cache.folder(), cache.size()
    text = f"{folder}: {count} answers, {used / 1e9:.1f} GB" if folder else "off: nothing is kept"
    console.answer(text, command="cache", folder=folder and str(folder), answers=count, bytes=used)


COMMANDS = {
    "cache": ("show or remove what is kept of earlier denoising", _cache_options, _cache),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
