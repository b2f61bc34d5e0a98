# Toy videos: python tools/make_toy_vis.py data/toy --easy --videos 48 --val_videos 8 --frames 10
# 60 other videos for tests: python tools/make_toy_vis.py data/toy_easy_60 --easy --videos 0 --val_videos 60 \
#     --frames 10 --seed 99
_base_ = './yvis.py'
data_root = 'data/toy/'
train_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'),
    dict(type='ResizeClip', scale=(320, 192)),
    dict(type='RandomFlipClip', prob=0.5),
    dict(type='PackTrackInputs')
]
test_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='ResizeClip', scale=(320, 192)),
    dict(type='PackTrackInputs')
]
train_dataloader = dict(
    num_workers=2, pin_memory=False, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=2, pin_memory=False, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_valid.json')
test_evaluator = val_evaluator
