"""Warnings that stand: logged once each, and in the status while what they are about is served."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator

logger = logging.getLogger(__name__)


class StandingWarnings:
    """Sentences in the order in which they came up."""

    def __init__(self) -> None:
        #: whether it is about the server itself, which no deployment changes
        self._lasting: dict[str, bool] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._lasting)

    def add(self, sentences: Iterable[str], *, lasting: bool = False) -> None:
        """Logs those that are new, and keeps them."""
        for sentence in sentences:
            if sentence not in self._lasting:
                self._lasting[sentence] = lasting
                logger.warning("%s", sentence)

    def deployed(self, *told: Iterable[str]) -> None:
        """Forgets what was said of another deployment.

        Args:
            told: all that is said of the new one, and of each of its workers.
        """
        said = list(itertools.chain(*told))
        self._lasting = {
            sentence: lasting
            for sentence, lasting in self._lasting.items()
            if lasting or sentence in said
        }
        self.add(said)
