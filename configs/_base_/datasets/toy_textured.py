# Textured toy videos with moving backgrounds and objects occluding each other, in OVIS format (with occlusion levels):
# python tools/make_toy_vis.py data/toy_textured --format ovis --videos 800 --val_videos 60 --frames 12 --size 480x270
# 240 other videos for tests: python tools/make_toy_vis.py data/toy_textured_240 --format ovis --videos 0 \
#     --val_videos 240 --frames 12 --size 480x270 --seed 99
_base_ = './ovis.py'
data_root = 'data/toy_textured/'
train_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'),
    dict(type='ResizeClip', scale=(480, 270)),
    dict(type='RandomFlipClip', prob=0.5),
    dict(type='PackTrackInputs')
]
test_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='ResizeClip', scale=(480, 270)),
    dict(type='PackTrackInputs')
]
train_dataloader = dict(batch_size=8, num_workers=5, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=5, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/annotations_valid.json')
test_evaluator = val_evaluator
