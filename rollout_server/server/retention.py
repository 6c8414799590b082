"""What a serving process does about old episodes: it deletes them from time to time, and says so."""

from __future__ import annotations

import asyncio
import logging
import threading

from envs.errors import InfrastructureError
from rollout_server.episode_store import EpisodeStore
from rollout_server.store_retention import Retention

__all__ = ["keep_pruned"]

_LOG = logging.getLogger(__name__)


async def keep_pruned(store: EpisodeStore, retention: Retention, *, every_s: float) -> None:
    """Prune at once and then every so often, until cancelled; for ever idle where nothing is to go.

    What went is logged as a warning: nobody deletes in silence. A store that fails is tried again the next time. A
    cancellation waits for the transaction under way, so that the store can be closed after it.
    """
    while retention.bounds:
        stop = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(store.prune, retention, stop=stop))
        try:
            report = await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([work])
            raise
        except InfrastructureError as error:
            _LOG.warning("the episode store could not be pruned: %s", error)
        else:
            if report.deleted:
                _LOG.warning("episode store: %s", report.line())
        await asyncio.sleep(every_s)
