"""Checks of the environment and helpers of the tools."""
