"""Shared parts of the commands.

`command` runs one, `config` reads its options, `training_inputs` and `building` open what it works
on, `progress_bars` reports, `tables`, `contact_sheet` and `output_files` write results.
"""
