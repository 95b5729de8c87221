"""`qt.QSettings` in memory, gone with the host."""

from __future__ import annotations

_values: dict[str, object] = {}


def reset() -> None:
    """Forget every setting."""
    _values.clear()


class QSettings:
    """One store for all objects. Values come back as texts, as they do from a settings file after a restart."""

    def __init__(self, *_file):
        """The same whatever the file."""

    def value(self, key: str, default=None):
        return _values.get(key, default)

    def setValue(self, key: str, value) -> None:
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, (int, float)):
            value = str(value)
        elif isinstance(value, (list, tuple)):
            value = [str(each) for each in value]
        _values[key] = value

    def contains(self, key: str) -> bool:
        return key in _values

    def remove(self, key: str) -> None:
        for each in [each for each in _values if each == key or each.startswith(f"{key}/")]:
            del _values[each]

    def allKeys(self) -> list[str]:
        return list(_values)
