"""Losses as plain functions of tensors, called by the heads."""
