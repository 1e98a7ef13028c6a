"""Stages: what a recipe is made of, what is up to date, and what runs next."""
