"""Shared parts of the commands.

`command` runs one, `config` reads its options, `training_inputs` and `building` open what it works
on, `progress_bars` reports, `terminal` fits text to its width, `tables`, `contact_sheet`,
`augment_sheet` writes pictures and `output_files` checks where results go.
"""
