"""A pytest plugin that watches the whole run: no token and no gold answer may stand in anything that was logged.

It reads every record of our loggers at DEBUG, and all that tests and the processes they start wrote to standard output
and error. ``envs.server_process`` logs what its server said; other helpers let their processes inherit the streams, or
read them. What is found fails the run, with the place of each and never the secret itself.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["GOLD_MARKER", "SECRETS", "SecretWatch"]

GOLD_MARKER = "gold-marker-"  # begins the gold answers of the tasks that tests write to hunt for leaks

# Every token that tests use. A new test takes one that begins with "tok-".
SECRETS = re.compile(
    rf"tok-[a-z]+-[a-z]+|{GOLD_MARKER}[a-z]|token-of-the-(?:server|expert|stream)|notebook-(?:expert-)?token"
    r"|a token for this test|a-policy-s-token|the-expert-s-token|the-next-token|another-caller"
)
_OURS = ("envs", "rollout_server", "trainer")


class SecretWatch(logging.Handler):
    """Collects where a secret was said."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []
        self.records = 0
        self._where = "before the first test"
        self._levels: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Read a record, its traceback included."""
        self.records += 1
        text = record.getMessage()
        if record.exc_info:
            text += logging.Formatter().formatException(record.exc_info)
        self._look(text, f"the log of {record.name}")

    def _look(self, text: str, what: str, where: str = "") -> None:
        for match in SECRETS.finditer(text):
            word = match.group()
            self.found.append(f"{where or self._where}: {word[:4]}… ({len(word)} characters) in {what}")

    def pytest_configure(self, config: pytest.Config) -> None:
        """Listen to our loggers, whatever their level, and to whoever else's records reach the root."""
        del config
        logging.getLogger().addHandler(self)
        for name in _OURS:
            logger = logging.getLogger(name)
            self._levels[name] = logger.level
            logger.setLevel(logging.DEBUG)

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Leave the loggers as they were."""
        del config
        logging.getLogger().removeHandler(self)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Know whose turn it is."""
        self._where = item.nodeid
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Read what was written to the streams; the records were read already."""
        for title, text in report.sections:
            if "log" not in title:
                self._look(text, title.lower(), report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a process of a distributed run has found."""
        self.found += node.workeroutput.get("secrets", [])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run, or tell the process that will."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["secrets"] = self.found
        if self.found:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where."""
        if self.found:
            terminalreporter.section("secrets that were logged", sep="!", red=True)
            for place in dict.fromkeys(self.found):
                terminalreporter.line(place)


def pytest_configure(config: pytest.Config) -> None:
    """Register the watch of this run."""
    watch = SecretWatch()
    config.pluginmanager.register(watch, "secret-watch-of-the-run")
