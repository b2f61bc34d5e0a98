"""What commands print on the console; the log file of a run contains everything. Used by the runner and the tools."""
from __future__ import annotations

import logging
import re

from mmengine.logging import MMLogger

# Beginnings of the messages that only the log file contains: mmengine logs them in every run.
_DETAILS = re.compile(
    r'\n-+\nSystem environment|Config:\n|Hooks will be executed|paramwise_options|\S+ is (skipped|duplicate)'
    r'|Distributed training is not used|\w+\((val|test)\) .*eta: |"(FileClient|HardDiskBackend)" '
    r'|Exp name:|Reach the end of the dataloader|Checkpoints will be saved|Saving checkpoint at')
_TABLE = re.compile(r'\n\S.*\(%\)\n')  # the scores as the metrics print them
_SCORES = re.compile(r'(Epoch|Iter)\((val|test)\)')  # the same scores in one line, by mmengine
# Left out of lines: two columns of the lines of losses, and the score of the best checkpoint.
_COLUMNS = re.compile(r' +(?:data_time|grad_norm): \S+|(?<=^The best checkpoint) with \S+ \S+')


class ConsoleFilter(logging.Filter):
    """Rejects what only the log file contains: settings, lists of hooks, and scores that a table has just shown."""

    def __init__(self) -> None:
        super().__init__()
        self._table_shown = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to print the message."""
        text = record.getMessage()
        if _DETAILS.match(text):
            return False
        if _TABLE.match(text):
            self._table_shown = True
        elif _SCORES.match(text):
            repeated, self._table_shown = self._table_shown, False
            return not repeated
        return True


class ConsoleFormatter(logging.Formatter):
    """Formats a message without time and logger; warnings begin with ``warning:``, errors with ``error:``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text to print."""
        kind = '' if record.levelno < logging.WARNING else f'{record.levelname.lower()}: '
        return kind + _COLUMNS.sub('', super().format(record))


def shorten_console(logger: MMLogger | None = None) -> None:
    """Shorten what a logger prints, unless its level is DEBUG; what it writes to its log file stays as it is.

    Args:
        logger: None: the one that ``print_log(..., 'current')`` uses.
    """
    for handler in (logger or MMLogger.get_current_instance()).handlers:
        if type(handler) is logging.StreamHandler and handler.level > logging.DEBUG and not isinstance(
                handler.formatter, ConsoleFormatter):
            handler.addFilter(ConsoleFilter())
            handler.setFormatter(ConsoleFormatter())
