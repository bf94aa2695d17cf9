"""The commands, each `python -m tools.NAME --config FILE key=value ...`.

`command` parses a command line and turns errors into one line and an exit code, `config` merges
YAML and `key=value` words onto the sections that a command uses, `bars` draws progress, `outputs`
looks at the files that a command is to write. `ablation` serves `ablate`, `contact_sheet` draws
for `query` and `show_augment`, and `birdsong` synthesises the recordings of `demo`;
`benchmarks` measures. All others are commands, thin: what they do lies in the layers below.
"""
