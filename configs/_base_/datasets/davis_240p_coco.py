# davis_240p.py and pseudo-videos of COCO images together, each with half of the places of an epoch. COCO's categories
# take the place of the eight where they mean the same; a rider and a horse are two objects in COCO and one in most of
# DAVIS, so neither rides there. For the whole of COCO: ann_file, data_prefix and a weight of 687 / (number of images).
_base_ = './davis_240p.py'
coco_root = 'data/coco128/'
coco_target = dict(
    person=['person'],
    vehicle=['car', 'bus', 'truck', 'train', 'boat'],
    dog=['dog'],
    bird=['bird'],
    large_animal=['bear', 'cow', 'elephant'],
    wheeled_rider=[],
    horse=['horse'],
    air_water_sport=[])
coco_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'),
    dict(type='AffineColourReference'),
    dict(type='RandomResizeClip', scales=[(400, 224), (520, 288)]),
    dict(type='RandomFlipClip', prob=0.5),
    dict(type='PackTrackInputs')
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='WeightedConcatDataset',
        weights=[0.5, 4.0],
        datasets=[
            dict(
                type='YVISDataset',
                data_root=_base_.data_root,
                ann_file='train.json',
                data_prefix=dict(img_path='train/JPEGImages'),
                pipeline=_base_.train_pipeline),
            dict(
                type='COCOVIS',
                target=coco_target,
                data_root=coco_root,
                ann_file='instances_train2017.json',
                data_prefix=dict(img_path='images'),
                pipeline=coco_pipeline),
        ]))
