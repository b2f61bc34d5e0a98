"""Losses as plain functions of tensors. Called by the heads."""
