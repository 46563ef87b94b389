"""What LoRA layers compute in a pass: their products, the casts of their weights, what neighbours share."""
