# MaskTrack R-CNN, YouTube-VIS.
_base_ = [
    './_base_/models/masktrack_r50.py', './_base_/datasets/yvis_640x360.py', './_base_/schedules/sgd_1x_two_stage.py',
    './_base_/default_runtime.py'
]
train_dataloader = dict(batch_size=8)
