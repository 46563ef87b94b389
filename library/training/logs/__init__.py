"""Figures of a run for TensorBoard, Weights & Biases and events.jsonl."""
