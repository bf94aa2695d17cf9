"""Experiments on disk: numbered folders of results.

`experiment` numbers and writes them, `jobs` finds those of a job that is started again, `report`,
`outcome` and `pictures` describe one, `listing` compares several, `blend` averages their
predictions.
"""
