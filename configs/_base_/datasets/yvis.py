# YouTube-VIS: key/reference pairs at random scales for training, whole videos in order for testing.
# The categories come from the annotation files (2019, 2021 and 2022 differ).
data_root = 'data/YVIS/'
train_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'),
    dict(type='RandomResizeClip', scales=[(640, 360), (960, 480)]),
    dict(type='RandomFlipClip', prob=0.5),
    dict(type='PackTrackInputs')
]
test_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='ResizeClip', scale=(960, 480)),
    dict(type='PackTrackInputs')
]
train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='SeededSampler'),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='YVISDataset',
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img_path='train_images'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='VideoSampler'),
    dataset=dict(
        type='YVISDataset',
        data_root=data_root,
        ann_file='annotations/instances_valid.json',
        data_prefix=dict(img_path='valid_images'),
        pipeline=test_pipeline,
        clip_len=8,  # frames per batch of the network; results do not depend on it
        test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type='YouTubeVISMetric', ann_file=data_root + 'annotations/instances_valid.json', metric='segm')
test_evaluator = val_evaluator
