"""Runtime of a training: machine, processes and memory, without models.

`auto` chooses settings for the machine, `launch` finds torchrun and srun, `ranks` synchronises
processes, `memory` bounds the memory of the host, `bar` shows progress.
"""
