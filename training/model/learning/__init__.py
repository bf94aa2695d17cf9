"""Learning: losses, distillation, optimizers with their schedules, and averages of weights."""
