# The 50 sequences of DAVIS-2016 at 426×240, every third frame, as YouTube-VIS JSON with 8 categories; the official
# split (29 videos for training, 20 for validation). The folder has train.json, valid.json, train/JPEGImages/ and
# valid/JPEGImages/.
_base_ = './yvis.py'
data_root = 'data/davis_240p/'
train_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'),
    dict(type='RandomResizeClip', scales=[(400, 224), (520, 288)]),
    dict(type='RandomFlipClip', prob=0.5),
    dict(type='PackTrackInputs')
]
test_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='ResizeClip', scale=(426, 240)),
    dict(type='PackTrackInputs')
]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img_path='train/JPEGImages'),
        pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        data_root=data_root,
        ann_file='valid.json',
        data_prefix=dict(img_path='valid/JPEGImages'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'valid.json')
test_evaluator = val_evaluator
