"""Modules and functions shared by several heads or backbones."""
