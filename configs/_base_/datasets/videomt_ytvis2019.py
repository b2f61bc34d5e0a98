# YouTube-VIS 2019 for VidEoMT: clips of five frames, half of them turning images of COCO, prepared as by the authors.
# --cfg-options preprocessing=transformers tests on frames squashed to 640×640, as transformers' processor makes them;
# published AP was measured with the authors'.
_base_ = './yvis.py'
data_root = 'data/YVIS/'
coco_root = 'data/coco/'
train_clip_len = 5
preprocessing = 'authors'
augmentation = [
    dict(
        type='RandomResizeCropClip',
        scales=[(1333, 400), (1333, 500), (1333, 600)],
        crop=(384, 600),
        prob=0.5,
        backend='pillow'),
    dict(
        type='RandomChoiceResizeClip',
        scales=[(768, side) for side in (320, 352, 392, 416, 448, 480, 512, 544, 576, 608, 640)],
        backend='pillow'),
    dict(type='RandomFlipClip', prob=0.5),
]
train_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'), *augmentation,
    dict(type='PackTrackInputs')
]
coco_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'), *augmentation,
    dict(type='RotateStillClip', angle=15, center=(0.4, 0.6)),
    dict(type='PackTrackInputs')
]
resize = (
    dict(type='ResizeClip', scale=(1333, 448), backend='pillow') if preprocessing == 'authors' else
    dict(type='ResizeClip', scale=(640, 640), keep_ratio=False, backend='pillow'))
test_pipeline = [dict(type='LoadTrackFrames'), resize, dict(type='PackTrackInputs')]
train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        _delete_=True,
        type='WeightedConcatDataset',
        shares=(1, 1),
        datasets=[
            dict(
                type='YVISDataset',
                data_root=data_root,
                ann_file='annotations/instances_train.json',
                data_prefix=dict(img_path='train_images'),
                train_clip_len=train_clip_len,
                pipeline=train_pipeline),
            dict(
                type='COCOVIS',
                target='yvis2019',
                data_root=coco_root,
                ann_file='annotations/instances_train2017.json',
                data_prefix=dict(img_path='train2017'),
                train_clip_len=train_clip_len,
                pipeline=coco_pipeline),
        ]))
metainfo = dict(
    classes=('person', 'giant_panda', 'lizard', 'parrot', 'skateboard', 'sedan', 'ape', 'dog', 'snake', 'monkey',
             'hand', 'rabbit', 'duck', 'cat', 'cow', 'fish', 'train', 'horse', 'turtle', 'bear', 'motorbike', 'giraffe',
             'leopard', 'fox', 'deer', 'owl', 'surfboard', 'airplane', 'truck', 'zebra', 'tiger', 'elephant',
             'snowboard', 'boat', 'shark', 'mouse', 'frog', 'eagle', 'earless_seal', 'tennis_racket'),
    cat_ids=tuple(range(1, 41)))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline, metainfo=metainfo))
test_dataloader = val_dataloader
