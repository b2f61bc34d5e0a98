"""Scores and result files. Called by test_video.py, train.py --validate, tools/vis_eval.py and the report."""
from mmdet.evaluation.functional import VISEvalResult, evaluate_vis
from mmdet.evaluation.metrics import YouTubeVISMetric
from mmdet.evaluation.result_files import load_results, write_results
from mmdet.evaluation.tables import format_scores

__all__ = ['VISEvalResult', 'YouTubeVISMetric', 'evaluate_vis', 'format_scores', 'load_results', 'write_results']
