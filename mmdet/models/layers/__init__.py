"""Modules and functions that several heads or backbones share."""
