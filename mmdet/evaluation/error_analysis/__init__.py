"""Where AP is lost: errors by kind, what mending each would gain, bootstrap intervals and calibration."""
from mmdet.evaluation.error_analysis.analysis import ErrorAnalysis, Gain, analyse_errors, relate_videos
from mmdet.evaluation.error_analysis.bootstrap import MAX_RESAMPLES, AveragePrecision, Estimate, estimate, resamples
from mmdet.evaluation.error_analysis.calibration import (
    ScoreCalibration,
    UncertaintyCalibration,
    calibrate_scores,
    calibrate_uncertainties,
)
from mmdet.evaluation.error_analysis.oracles import (
    ORACLES,
    SPLIT_OF_SWITCHES,
    Mend,
    kinds_of_tracks,
    mend,
    outcome,
)
from mmdet.evaluation.error_analysis.paired import mean_difference
from mmdet.evaluation.error_analysis.relations import Relations, relate

__all__ = ['AveragePrecision', 'ErrorAnalysis', 'Estimate', 'Gain', 'MAX_RESAMPLES', 'Mend', 'ORACLES', 'Relations',
           'SPLIT_OF_SWITCHES', 'ScoreCalibration', 'UncertaintyCalibration', 'analyse_errors', 'calibrate_scores',
           'calibrate_uncertainties', 'estimate', 'kinds_of_tracks', 'mean_difference', 'mend', 'outcome', 'relate',
           'relate_videos', 'resamples']
