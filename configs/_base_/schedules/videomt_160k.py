# 160,000 steps: VidEoMT on YouTube-VIS 2021 and 2022 (215 epochs of 2,985 videos and as many clips of COCO).
_base_ = './videomt_40k.py'
iterations = 160000
train_cfg = dict(max_epochs=215)
param_scheduler = [dict(curve, end=iterations) for curve in _base_.param_scheduler]
