"""Text of a config, which a run writes to its log and to two files. Used by the runner."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def formatted_once() -> Iterator[None]:
    """Let YAPF format the same text only once within the context.

    mmengine formats the config for each use, four times at the start of a run, which takes 0.1 s each.
    """
    from yapf.yapflib import yapf_api

    def format_or_reuse(text: str, **options: Any) -> tuple[str, bool]:
        if text not in formatted:
            formatted[text] = format_code(text, **options)
        return formatted[text]

    format_code, formatted = yapf_api.FormatCode, dict[str, tuple[str, bool]]()
    yapf_api.FormatCode = format_or_reuse
    try:
        yield
    finally:
        yapf_api.FormatCode = format_code
