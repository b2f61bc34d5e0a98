# davis_240p.py with the augmentation of augmentation.py, whose switches --cfg-options sets, and with frames enlarged by
# half, since the outlines of masks are only as fine as the network's maps.
_base_ = ['./davis_240p.py', './augmentation.py']
train_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'),
    dict(type='RandomResizeClip', scales=[(600, 336), (780, 432)]),
    *_base_.augmentation,
    dict(type='RandomFlipClip', prob=0.5),
    dict(type='PackTrackInputs')
]
test_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='ResizeClip', scale=(640, 360)),
    dict(type='PackTrackInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, ref_range=_base_.ref_range))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
