# yvis.py with the augmentation of augmentation.py, whose switches --cfg-options sets, at one size instead of random
# ones: the images of 16:9 videos are padded to 832×480, so that few CUDA graphs cover an epoch.
_base_ = ['./yvis.py', './augmentation.py']
train_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'),
    dict(type='ResizeClip', scale=(832, 480)),
    *_base_.augmentation,
    dict(type='RandomFlipClip', prob=0.5),
    dict(type='PackTrackInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, ref_range=_base_.ref_range))
