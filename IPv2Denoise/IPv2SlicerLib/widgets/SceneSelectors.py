"""Node selectors whose offer depends on what the nodes of the scene are."""

from .Section import Section


class SceneSelectors(Section):
    """A section that follows the scene; `_follow` says what is offered."""

    def __init__(self, ui, logic):
        super().__init__(ui, logic)
        self._soon = self._watchScene(self._follow)

    def enter(self) -> None:
        """The module is opened."""
        self._follow()

    def _follow(self) -> None:
        raise NotImplementedError
