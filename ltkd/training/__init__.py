"""What `training.fit` is made of: the parts of a run, its batches, its steps, the teacher's memory, the record."""
