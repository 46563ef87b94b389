"""Imports the classes of models without what diffusers and transformers import beside them; what is left out comes when it is asked for."""
