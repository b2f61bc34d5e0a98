# CMaskTrack R-CNN, YouTube-VIS. Each test clip includes five frames before and after it, for calibration.
_base_ = [
    './_base_/models/cmasktrack_r50.py', './_base_/datasets/yvis_640x360.py', './_base_/schedules/sgd_1x_two_stage.py',
    './_base_/default_runtime.py'
]
train_dataloader = dict(batch_size=8)
val_dataloader = dict(dataset=dict(clip_len=10, context=5))
test_dataloader = val_dataloader
