"""Format scores as plain text. ``YouTubeVISMetric`` and ``tools/vis_eval.py`` print them."""
from __future__ import annotations

from collections.abc import Sequence

from mmdet.evaluation.functional import VISEvalResult

RANGE_TEXT = {
    'AP': 'IoU .50:.95', 'AP50': 'IoU .50', 'AP75': 'IoU .75',
    'APs': 'area up to 128²', 'APm': 'area 128² to 256²', 'APl': 'area from 256²',
    'APso': 'slightly occluded', 'APmo': 'moderately occluded', 'APho': 'heavily occluded',
    'AR1': '1 track per video', 'AR10': '10 tracks per video', 'AR100': '100 tracks per video',
    'ARs': 'area up to 128²', 'ARm': 'area 128² to 256²', 'ARl': 'area from 256²',
    'ARso': 'slightly occluded', 'ARmo': 'moderately occluded', 'ARho': 'heavily occluded'}


def format_scores(result: VISEvalResult, title: str = '') -> str:
    """Return two aligned tables, statistics and AP per category, in percent; ``-`` where nothing is annotated.

    Args:
        result: the scores.
        title: title of both tables; empty: the name of the metric.
    """
    title = title or result.metric
    statistics = [(name, RANGE_TEXT[name], _percent(value)) for name, value in result.statistics.items()]
    categories = [(result.category_names[key], str(key), _percent(value)) for key, value in result.per_category.items()]
    return '\n'.join([f'{title}, video AP and AR (%)', align(statistics, left=2), '',
                      f'{title}, AP per category (%)', align([('category', 'id', 'AP'), *categories], left=2)])


def _percent(value: float) -> str:
    return '-' if value < 0 else f'{100 * value:.2f}'


def align(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Format rows of equally many cells as a table of text, with ``left`` columns aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  ' + '  '.join(cell.ljust(width) if place < left else cell.rjust(width)
                                     for place, (cell, width) in enumerate(zip(row, widths))) for row in rows)
