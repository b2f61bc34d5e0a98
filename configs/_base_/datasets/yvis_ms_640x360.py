# YouTube-VIS: training at random scales as in yvis.py, testing at 640×360.
_base_ = './yvis.py'
test_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='ResizeClip', scale=(640, 360)),
    dict(type='PackTrackInputs')
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
