"""The task of each stage: a batch, its loss, figures and pictures to judge it by; one file a stage.

A task is a `train.loop.Task`, which `task_of(run, stage)` of its file makes of a recipe's run (`train.run`).
Every batch and every loss is a pure function of the places (`train.places`) that it is given.
"""
