"""The fine-tuning methods: network, full model, textual inversion."""
