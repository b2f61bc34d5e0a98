"""Toy videos with ground truth, for demonstrations and tests: no download needed."""
from mmdet.datasets.toy.toy_vis import ToyVIS, make_toy_vis

__all__ = ['ToyVIS', 'make_toy_vis']
