"""Checks of a training run by its log: pure functions over the metrics, the recipe and the training record."""
