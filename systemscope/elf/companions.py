"""What belongs to an image but lies in files of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Protocol

from systemscope.elf.errors import ElfError

if TYPE_CHECKING:
    from systemscope.elf.image import ElfImage


class Companions(Protocol):
    """Finds the files that belong to images. What it finds stays open as long as the image is
    used; it is asked once for each image and kind. Raises nothing."""

    def debug_file(self, image: ElfImage) -> Optional[ElfImage]:
        """The separate file with the symbols and debug information stripped off ``image``."""
        ...

    def supplement(self, image: ElfImage) -> Optional[ElfImage]:
        """The file that dwz moved shared debug information to (.gnu_debugaltlink)."""
        ...

    def failed(self, what: str, error: ElfError) -> None:
        """Note that ``what`` of the image could not be used."""
        ...
