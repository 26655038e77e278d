# Copyright (c) The lisa_mm authors.
"""The one place where the version is written; setup.py reads it without importing."""

__version__ = '0.2.0'
