"""Modules and functions that several heads or backbones share, and CUDA graphs of them."""
