"""Ways of keeping slices and reading them, one module each, and `run_way`, which measures one.

These run in other environments than ours, without melbank on the path: a module imports numpy,
torch and the one library that it is about, nothing else of this project (but `melbank`, ours).
A module has

* `write(cells, target)`: copies slices, an array [N, M, T], into the folder `target`, untimed;
  another layout has another such function;
* one function per way of reading, `way(target, about) -> epoch`, which opens the copy. `about`
  has shape, dtype, batch_size, task and seed. `epoch(wanted, epoch_no)` then yields the batches:
  slices as a tensor [B, M, T], and the number of each slice, so that what came can be checked.
  `wanted` are the numbers planned for the batches of this epoch, in order, int64 [B] each.
"""
