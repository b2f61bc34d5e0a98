# Few toy videos in OVIS format whose shapes, textures and backgrounds do not occur in toy_textured.py:
# to see whether a training recipe generalises. 60 videos of 20 frames are 150 steps of 8 pairs an epoch.
# python tools/make_toy_vis.py data/toy_organic --family organic --classes 8 --videos 60 --val_videos 20 --frames 20 \
#     --size 640x360 --format ovis
_base_ = './ovis.py'
data_root = 'data/toy_organic/'
train_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'),
    dict(type='ResizeClip', scale=(640, 360)),
    dict(type='RandomFlipClip', prob=0.5),
    dict(type='PackTrackInputs')
]
test_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='ResizeClip', scale=(640, 360)),
    dict(type='PackTrackInputs')
]
train_dataloader = dict(batch_size=8, num_workers=5, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=5, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/annotations_valid.json')
test_evaluator = val_evaluator
