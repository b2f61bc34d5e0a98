# OVIS for VidEoMT: larger frames, twice as many results of a video.
_base_ = './videomt_ytvis2019.py'
data_root = 'data/OVIS/'
train_dataloader = dict(
    dataset=dict(datasets=[
        dict(
            _base_.train_dataloader.dataset.datasets[0],
            type='OVISDataset',
            data_root=data_root,
            ann_file='annotations/annotations_train.json'),
        dict(_base_.train_dataloader.dataset.datasets[1], target='ovis')
    ]))
metainfo = dict(
    classes=('Person', 'Bird', 'Cat', 'Dog', 'Horse', 'Sheep', 'Cow', 'Elephant', 'Bear', 'Zebra', 'Giraffe', 'Poultry',
             'Giant_panda', 'Lizard', 'Parrot', 'Monkey', 'Rabbit', 'Tiger', 'Fish', 'Turtle', 'Bicycle', 'Motorcycle',
             'Airplane', 'Boat', 'Vehical'),
    cat_ids=tuple(range(1, 26)))
resize = _base_.resize if _base_.preprocessing != 'authors' else dict(_base_.resize, scale=(1333, 544))
test_pipeline = [dict(type='LoadTrackFrames'), resize, dict(type='PackTrackInputs')]
val_dataloader = dict(
    dataset=dict(
        type='OVISDataset',
        data_root=data_root,
        ann_file='annotations/annotations_valid.json',
        pipeline=test_pipeline,
        metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/annotations_valid.json')
test_evaluator = val_evaluator
