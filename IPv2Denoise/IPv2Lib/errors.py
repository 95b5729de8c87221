"""The one exception family of the library.

Every message says what is wrong, with the value, and what to do about it. The command line prints it as one
line and exits with 2; the Slicer modules show it as it is.
"""

import errno


class IPv2Error(Exception):
    """Root of every error that the library raises on purpose."""


class InputError(IPv2Error):
    """The input cannot be used: wrong file, wrong values, wrong geometry, wrong parameter."""


class BundleError(InputError):
    """A trained model on disk is missing, damaged or of an unknown format."""


class OutputError(IPv2Error):
    """A result cannot be written: no permission, no space, not a place for a file."""


class Cancelled(IPv2Error):
    """The caller asked to stop; nothing was changed."""


class InputNote(UserWarning):
    """What a reader should know about an input that was read all the same, e.g. files that were left out.

    Raised by `warnings.warn`; the message is one line, as an error's.
    """


def reason(error: BaseException) -> str:
    """What the system says, for people.

    Examples
    --------
    >>> reason(OSError(errno.ENOSPC, "No space left on device"))
    'the disk is full'
    """
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOSPC:
        return "the disk is full"
    if number == errno.EDQUOT:
        return "your share of the disk is full"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, be it for a library that was to be loaded.

    Examples
    --------
    >>> is_lack_of_memory(ImportError("libtorch_cpu.so: failed to map segment from shared object"))
    True
    """
    text = str(error) if isinstance(error, (ImportError, OSError)) else ""
    return isinstance(error, MemoryError) or "failed to map segment" in text or "Cannot allocate memory" in text
