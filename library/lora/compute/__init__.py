"""What LoRA layers compute in a pass: products, casts of weights, results shared between neighbours."""
