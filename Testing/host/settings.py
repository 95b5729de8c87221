"""`qt.QSettings` in memory, gone with the host."""

from __future__ import annotations

_values: dict[str, object] = {}


def reset() -> None:
    """Forget every setting."""
    _values.clear()


class QSettings:
    """One store for all objects. Values come back as texts, as they do from a settings file after a restart."""

    def __init__(self, *_file):
        self._groups: list[str] = []

    def _key(self, key: str) -> str:
        return "/".join([*self._groups, key])

    def value(self, key: str, default=None):
        return _values.get(self._key(key), default)

    def setValue(self, key: str, value) -> None:
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, (int, float)):
            value = str(value)
        elif isinstance(value, (list, tuple)):
            value = [str(each) for each in value]
        _values[self._key(key)] = value

    def contains(self, key: str) -> bool:
        return self._key(key) in _values

    def remove(self, key: str) -> None:
        full = self._key(key)
        for each in [each for each in _values if each == full or each.startswith(f"{full}/")]:
            del _values[each]

    def allKeys(self) -> list[str]:
        prefix = "".join(f"{group}/" for group in self._groups)
        return [key.removeprefix(prefix) for key in _values if key.startswith(prefix)]

    def childKeys(self) -> list[str]:
        return [key for key in self.allKeys() if "/" not in key]

    def beginGroup(self, group: str) -> None:
        self._groups.append(group)

    def endGroup(self) -> None:
        self._groups.pop()

    def sync(self) -> None:
        """Nothing is written."""
