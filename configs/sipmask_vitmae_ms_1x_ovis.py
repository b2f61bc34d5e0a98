# SipMask-VIS, ViT-B (MAE), OVIS.
_base_ = './sipmask_vitmae_ms_1x.py'
model = dict(bbox_head=dict(num_classes=25, test_cfg=dict(max_per_img=15)))
data_root = 'data/OVIS/'
train_dataloader = dict(
    batch_size=8, dataset=dict(type='OVISDataset', data_root=data_root, ann_file='annotations/annotations_train.json'))
val_dataloader = dict(
    dataset=dict(type='OVISDataset', data_root=data_root, ann_file='annotations/annotations_valid.json'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/annotations_valid.json')
test_evaluator = val_evaluator
