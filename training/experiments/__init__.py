"""Experiments on disk: numbered folders of results.

`experiment` numbers and writes them, `report`, `outcome` and `pictures` describe one, `listing`
compares several, `blend` averages their predictions.
"""
