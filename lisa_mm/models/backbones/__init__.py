"""Backbones."""

from .lisa import LiSA

__all__ = ['LiSA']
