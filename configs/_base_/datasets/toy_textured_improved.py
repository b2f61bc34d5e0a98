# toy_textured.py with the augmentation of augmentation.py, whose switches --cfg-options sets.
_base_ = ['./toy_textured.py', './augmentation.py']
train_pipeline = [*_base_.train_pipeline[:-2], *_base_.augmentation, *_base_.train_pipeline[-2:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, ref_range=_base_.ref_range))
