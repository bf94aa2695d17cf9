"""Pictures of many slices: found, augmented, or wrongly predicted ones."""
