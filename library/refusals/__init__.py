"""Every kind of refusal with its code, what it means and what to do: the one registry behind the lines' ends and docs/errors.md."""
