# OVIS: as YouTube-VIS, 25 categories, heavy occlusion.
_base_ = './yvis.py'
data_root = 'data/OVIS/'
train_dataloader = dict(
    dataset=dict(type='OVISDataset', data_root=data_root, ann_file='annotations/annotations_train.json'))
val_dataloader = dict(
    dataset=dict(type='OVISDataset', data_root=data_root, ann_file='annotations/annotations_valid.json'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/annotations_valid.json')
test_evaluator = val_evaluator
