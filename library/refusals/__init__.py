"""Every kind of refusal with its code, its meaning and the remedy: the registry behind the codes in messages and docs/errors.md."""
