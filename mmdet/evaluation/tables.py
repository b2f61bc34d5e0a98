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


def format_scores(result: VISEvalResult) -> str:
    """Statistics and AP per category in percent, two aligned tables; ``-`` where nothing was annotated."""
    statistics = [(name, RANGE_TEXT[name], _percent(value)) for name, value in result.statistics.items()]
    categories = [(result.category_names[key], str(key), _percent(value)) for key, value in result.per_category.items()]
    return '\n'.join([f'{result.metric}, video AP and AR (%)', _align(statistics), '',
                      f'{result.metric}, AP per category (%)', _align([('category', 'id', 'AP'), *categories])])


def _percent(value: float) -> str:
    return '-' if value < 0 else f'{100 * value:.2f}'


def _align(rows: Sequence[tuple[str, str, str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return '\n'.join(f'  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}' for row in rows)
